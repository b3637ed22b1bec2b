"""Usage that is counted by a meter and charged with the next cycle."""

from __future__ import annotations

import pytest
import stripe

from tests.sandbox.stripe.business import HOUR, Business
from tests.sandbox.stripe.receiver import Receiver


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


def test_usage_of_nobody_is_reported_later_and_only_thinly(business: Business, receiver: Receiver) -> None:
    """Stripe makes no snapshot of this event: it is for whoever has a thin destination."""
    client, name = business.client, "v1.billing.meter.error_report_triggered"
    client.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["*"]})
    destination = client.v2.core.event_destinations.create(
        {
            "name": "meters",
            "type": "webhook_endpoint",
            "event_payload": "thin",
            "enabled_events": [name],
            "webhook_endpoint": {"url": receiver.url},
            "include": ["webhook_endpoint.signing_secret"],
        }
    )
    meter = client.v1.billing.meters.create(
        {"display_name": "Calls", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
    )
    assert business.stand_in.account.courier.settle()
    heard = len(receiver.received)

    client.v1.billing.meter_events.create(
        {"event_name": "calls", "payload": {"stripe_customer_id": "cus_x", "value": "1"}, "identifier": "batch-1"}
    )

    assert business.stand_in.account.courier.settle()
    assert name not in [one.type for one in client.v1.events.list({"limit": 100}).data]
    (one,) = receiver.received[heard:]
    assert destination.webhook_endpoint
    note = client.parse_event_notification(one.body, one.signature, str(destination.webhook_endpoint.signing_secret))
    assert isinstance(note, stripe.events.V1BillingMeterErrorReportTriggeredEventNotification)
    assert (note.related_object.id, one.event["snapshot_event"]) == (meter.id, None)
    (problem,) = note.fetch_event().data.reason.error_types
    assert (problem.code, problem.sample_errors[0].request.identifier) == ("meter_event_customer_not_found", "batch-1")
