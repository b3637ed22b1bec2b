"""Every operation of the API that the stand-in answers."""

from __future__ import annotations

from infra.sandbox.stripe import customers, endpoints, events, thin_events
from infra.sandbox.stripe.wire import Operation

OPERATIONS: list[Operation] = [
    *customers.OPERATIONS,
    *endpoints.OPERATIONS,
    *events.OPERATIONS,
    *thin_events.OPERATIONS,
]
