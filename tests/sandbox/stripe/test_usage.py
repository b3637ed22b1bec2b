"""Usage that is counted by a meter and charged with the next cycle."""

from __future__ import annotations

import pytest
import stripe

from tests.sandbox.stripe.business import DAY, HOUR, Business

DUNNING = 16 * DAY


def test_usage_is_charged_with_the_next_cycle(business: Business) -> None:
    v1 = business.client.v1
    meter = v1.billing.meters.create(
        {"display_name": "Calls", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
    )
    price = v1.prices.create(
        {
            "currency": "usd",
            "unit_amount": 5,
            "product": str(business.basic.product),
            "recurring": {"interval": "month", "usage_type": "metered", "meter": meter.id},
        }
    )
    customer = business.customer()
    subscription = v1.subscriptions.create({"customer": customer.id, "items": [{"price": price.id}]})
    for number in (3, 4):
        payload = {"stripe_customer_id": customer.id, "value": str(number)}
        v1.billing.meter_events.create({"event_name": "calls", "payload": payload, "identifier": f"batch-{number}"})
    with pytest.raises(stripe.InvalidRequestError, match="already exists"):
        v1.billing.meter_events.create({"event_name": "calls", "payload": payload, "identifier": "batch-4"})

    business.wait_for_renewal(subscription, after=HOUR)

    assert business.latest_invoice(subscription).total == 7 * 5


def test_usage_of_nobody_is_reported_later(business: Business) -> None:
    v1 = business.client.v1
    v1.billing.meters.create(
        {"display_name": "Calls", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
    )
    known = len(business.events())

    v1.billing.meter_events.create({"event_name": "calls", "payload": {"stripe_customer_id": "cus_x", "value": "1"}})

    assert business.types(known) == ["v1.billing.meter.error_report_triggered"]
