"""Every object of the stand-in has the shape that Stripe publishes: no field unknown, missing or of a wrong type."""

from __future__ import annotations

import json
from typing import Any

import pytest
from stripe import StripeClient, StripeObject

from infra.sandbox.stripe import checkout, disputes, payments, portal, refunds
from tests.sandbox.stripe.business import DAY, HOUR, Business, item
from tests.sandbox.stripe.shapes import Comparison

LISTS = """
    customers products prices payment_methods?customer={customer} subscriptions?status=all invoices invoiceitems
    invoice_payments payment_intents setup_intents charges refunds disputes credit_notes checkout/sessions
    billing_portal/configurations billing/meters entitlements/features test_helpers/test_clocks webhook_endpoints
    entitlements/active_entitlements?customer={customer} subscription_items?subscription={subscription}
"""
KINDS = 30
FIELDS = 700


def test_every_object_has_the_published_shape(business: Business) -> None:
    subscription, others = _story(business)
    comparison = Comparison()

    for path in LISTS.split():
        for one in _read(business.client, path.format(customer=subscription.customer, subscription=subscription.id)):
            comparison.compare(one)
    for one in others:
        comparison.compare(one)

    assert not comparison.problems, "\n".join(sorted(comparison.problems))
    assert len(comparison.kinds) >= KINDS, sorted(comparison.kinds)
    assert len(comparison.fields) >= FIELDS


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"current_period_end": 1}, "subscription.current_period_end: unknown"),
        ({"status": 7}, "subscription.status: 7 is not"),
        ({"livemode": 0}, "subscription.livemode: 0 is not"),
        ({"items": {"object": "list", "data": []}}, "subscription.items"),
    ],
)
def test_a_wrong_shape_is_noticed(business: Business, change: dict[str, Any], problem: str) -> None:
    comparison = Comparison()

    comparison.compare(_raw(business.subscribe()) | change)

    assert any(one.startswith(problem) for one in comparison.problems)


def test_a_missing_field_is_noticed(business: Business) -> None:
    comparison, shown = Comparison(), _raw(business.subscribe())
    del shown["cancel_at_period_end"]

    comparison.compare(shown)

    assert comparison.problems == {"subscription.cancel_at_period_end: missing"}


def _story(business: Business) -> tuple[Any, list[dict[str, Any]]]:
    """A year in a shop: everything that makes an object happens once."""
    account, v1 = business.stand_in.account, business.client.v1
    v1.webhook_endpoints.create({"url": "http://127.0.0.1:9/hook", "enabled_events": ["*"]})
    feature = v1.entitlements.features.create({"lookup_key": "api", "name": "API"})
    v1.products.features.create(str(business.basic.product), {"entitlement_feature": feature.id})
    meter = v1.billing.meters.create(
        {"display_name": "Calls", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
    )
    subscription = business.subscribe(metadata={"org": "1"})
    customer = str(subscription.customer)
    payload = {"stripe_customer_id": customer, "value": "3"}
    meter_event = v1.billing.meter_events.create({"event_name": "calls", "payload": payload})
    period: Any = {"customer": customer, "start_time": account.now() - HOUR, "end_time": account.now() + HOUR}
    summaries = v1.billing.meters.event_summaries.list(meter.id, period).data
    _pay_at_checkout(business)
    business.wait(DAY)
    business.upgrade(subscription)
    session = v1.billing_portal.sessions.create({"customer": customer, "return_url": "http://127.0.0.1:9/"})
    portal.cancel(account, subscription.id)
    portal.keep(account, subscription.id)
    paid = business.latest_invoice(subscription)
    v1.credit_notes.create({"invoice": paid.id, "amount": 100, "refund_amount": 50})
    charge = v1.charges.list({"customer": customer}).data[0]
    refunds.fail(account, v1.refunds.create({"charge": charge.id, "amount": 10}).id)
    disputes.decide(account, disputes.open_dispute(account, charge.id)["id"], won=False)
    portal.change_card(account, customer, "pm_card_chargeCustomerFail")
    business.client.v1.subscriptions.update(
        subscription.id,
        {
            "items": [{"id": item(subscription).id, "quantity": 4}],
            "payment_behavior": "pending_if_incomplete",
            "proration_behavior": "always_invoice",
        },
    )
    clock = v1.test_helpers.test_clocks.create({"frozen_time": account.now()})
    v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": account.now() + 50 * DAY})
    details: Any = {"items": [{"price": business.pro.id}]}
    preview = v1.invoices.create_preview({"customer": customer, "subscription_details": details})
    # An announced invoice does not exist yet and has no id, whatever the library's class says.
    told = [one for one in business.events() if one.type != "invoice.upcoming"]
    others: list[StripeObject] = [meter_event, *summaries, session, preview, *told]
    return subscription, [_raw(one) for one in others]


def _pay_at_checkout(business: Business) -> None:
    account, line = business.stand_in.account, {"price": business.basic.id, "quantity": 1}
    for mode, card in (("subscription", "pm_card_authenticationRequired"), ("setup", "pm_card_visa")):
        params: Any = {"mode": mode, "success_url": "http://127.0.0.1:9/", "currency": "usd"}
        params |= {"line_items": [line]} if mode == "subscription" else {}
        session = business.client.v1.checkout.sessions.create(params)
        checkout.complete(account, session.id, card)
        if waiting := checkout.challenge(account, session.id):
            payments.confirm(account, waiting, ok=True)


def _raw(obj: StripeObject) -> dict[str, Any]:
    """As it was on the wire, where exact numbers are text."""
    found: dict[str, Any] = json.loads(json.dumps(obj.to_dict(), default=str))
    return found


def _read(client: StripeClient, path: str) -> list[dict[str, Any]]:
    answer = client.raw_request("get", f"/v1/{path}{'&' if '?' in path else '?'}limit=100")
    found: list[dict[str, Any]] = json.loads(answer.body)["data"]
    return found
