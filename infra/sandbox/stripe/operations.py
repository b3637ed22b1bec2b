"""Every operation of the API that the stand-in answers."""

from __future__ import annotations

from infra.sandbox.stripe import (
    catalog,
    checkout,
    credit_notes,
    customers,
    destinations,
    disputes,
    endpoints,
    entitlements,
    events,
    invoice_api,
    meters,
    payment_methods,
    payments,
    portal,
    refunds,
    setup_intents,
    subscription_api,
    test_clocks,
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
    *refunds.OPERATIONS,
    *credit_notes.OPERATIONS,
    *disputes.OPERATIONS,
    *entitlements.OPERATIONS,
    *meters.OPERATIONS,
    *test_clocks.OPERATIONS,
    *endpoints.OPERATIONS,
    *destinations.OPERATIONS,
    *events.OPERATIONS,
    *thin_events.OPERATIONS,
]
