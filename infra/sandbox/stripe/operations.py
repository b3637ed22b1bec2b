"""Every operation of the API that the stand-in answers."""

from __future__ import annotations

from infra.sandbox.stripe import customers
from infra.sandbox.stripe.wire import Operation

OPERATIONS: list[Operation] = [*customers.OPERATIONS]
