"""Every operation of the API that the stand-in answers."""

from __future__ import annotations

from infra.sandbox.stripe import (
    catalog,
    checkout,
    customers,
    endpoints,
    events,
    invoice_api,
    meters,
    payment_methods,
    payments,
    portal,
    setup_intents,
    subscription_api,
    thin_events,
)
from infra.sandbox.stripe.wire import Operation

OPERATIONS: list[Operation] = [
    *catalog.OPERATIONS,
    *customers.OPERATIONS,
    *payment_methods.OPERATIONS,
    *payments.OPERATIONS,
    *subscription_api.OPERATIONS,
    *invoice_api.OPERATIONS,
    *checkout.OPERATIONS,
    *portal.OPERATIONS,
    *setup_intents.OPERATIONS,
    *meters.OPERATIONS,
    *endpoints.OPERATIONS,
    *events.OPERATIONS,
    *thin_events.OPERATIONS,
]
