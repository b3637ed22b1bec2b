"""Subscriptions of the stand-in are made, changed and listed as at Stripe, in today's shapes."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from tests.sandbox.stripe.business import BASIC, DAY, HOUR, PRO, YEARLY, Business, item


def test_a_new_subscription_is_paid_at_once(business: Business) -> None:
    known = len(business.events())

    subscription = business.subscribe(quantity=2, expand=["latest_invoice"])

    assert subscription.status == "active"
    invoice = subscription.latest_invoice
    assert isinstance(invoice, stripe.Invoice)
    assert (invoice.status, invoice.total, invoice.billing_reason) == ("paid", 2 * BASIC, "subscription_create")
    assert invoice.parent
    assert invoice.parent.subscription_details
    assert invoice.parent.subscription_details.subscription == subscription.id
    assert business.types(known)[-11:] == [
        "customer.created",
        "customer.subscription.created",
        "invoice.created",
        "invoice.finalized",
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "invoice.paid",
        "invoice.payment_succeeded",
        "invoice_payment.paid",
        "customer.subscription.updated",
    ]


def test_the_period_is_on_the_item_and_not_on_the_subscription(business: Business) -> None:
    subscription = business.subscribe()

    assert item(subscription).current_period_end > item(subscription).current_period_start
    assert not hasattr(subscription, "current_period_end")


def test_an_upgrade_keeps_the_item_and_charges_the_difference(business: Business) -> None:
    subscription = business.subscribe()
    start, end = item(subscription).current_period_start, item(subscription).current_period_end
    business.stand_in.account.clock.advance_to(start + (end - start) // 2)

    upgraded = business.upgrade(subscription)

    assert item(upgraded).id == item(subscription).id
    assert item(upgraded).price.id == business.pro.id
    invoice = business.client.v1.invoices.retrieve(str(upgraded.latest_invoice))
    assert (invoice.status, invoice.billing_reason) == ("paid", "subscription_update")
    assert abs(invoice.total - (PRO - BASIC) // 2) <= 1
    assert len(invoice.lines.data) == 2


def test_an_upgrade_tells_what_was_there_before(business: Business) -> None:
    subscription = business.subscribe()
    known = len(business.events())

    business.upgrade(subscription)

    (updated,) = (one for one in business.events(known) if one.type == "customer.subscription.updated")
    before = updated.data.to_dict()["previous_attributes"]
    assert set(before) == {"items", "latest_invoice"}
    assert before["items"]["data"][0]["price"]["id"] == business.basic.id


def test_a_declined_upgrade_waits_and_changes_nothing(business: Business) -> None:
    subscription = business.subscribe()
    business.use_card(subscription.customer, "pm_card_chargeCustomerFail")

    declined = business.upgrade(subscription)

    assert (declined.status, item(declined).price.id) == ("active", business.basic.id)
    pending = declined.pending_update
    assert pending
    assert pending.subscription_items
    assert pending.subscription_items[0].price.id == business.pro.id
    assert pending.expires_at == business.latest_invoice(declined).created + 23 * HOUR


def test_a_waiting_upgrade_is_made_when_it_is_paid(business: Business) -> None:
    subscription = business.subscribe()
    business.use_card(subscription.customer, "pm_card_chargeCustomerFail")
    declined = business.upgrade(subscription)
    business.use_card(subscription.customer, "pm_card_visa")
    known = len(business.events())

    business.client.v1.invoices.pay(str(declined.latest_invoice))

    paid = business.now(subscription)
    assert (item(paid).price.id, item(paid).id, paid.pending_update) == (business.pro.id, item(subscription).id, None)
    assert "customer.subscription.pending_update_applied" in business.types(known)


def test_a_waiting_upgrade_is_off_after_23_hours(business: Business) -> None:
    subscription = business.subscribe()
    business.use_card(subscription.customer, "pm_card_chargeCustomerFail")
    declined = business.upgrade(subscription)
    known = len(business.events())

    business.stand_in.account.clock.advance(23 * HOUR)

    after = business.now(subscription)
    assert (after.pending_update, item(after).price.id, after.status) == (None, business.basic.id, "active")
    assert business.client.v1.invoices.retrieve(str(declined.latest_invoice)).status == "void"
    assert "customer.subscription.pending_update_expired" in business.types(known)


def test_only_some_fields_may_wait_for_a_payment(business: Business) -> None:
    subscription = business.subscribe()

    with pytest.raises(stripe.InvalidRequestError, match="pending_if_incomplete"):
        business.upgrade(subscription, cancel_at_period_end=True)

    assert item(business.now(subscription)).price.id == business.basic.id


def test_a_declined_upgrade_that_may_be_incomplete_is_past_due(business: Business) -> None:
    subscription = business.subscribe()
    business.use_card(subscription.customer, "pm_card_chargeCustomerFail")

    upgraded = business.upgrade(subscription, payment_behavior="allow_incomplete")

    assert (upgraded.status, item(upgraded).price.id) == ("past_due", business.pro.id)


def test_an_upgrade_may_be_refused_when_the_card_is(business: Business) -> None:
    subscription = business.subscribe()
    business.use_card(subscription.customer, "pm_card_chargeCustomerFail")

    with pytest.raises(stripe.CardError):
        business.upgrade(subscription, payment_behavior="error_if_incomplete")

    assert business.now(subscription).to_dict() == subscription.to_dict()


def test_seats_are_charged_with_the_next_cycle_unless_asked_for_now(business: Business) -> None:
    subscription = business.subscribe()

    business.client.v1.subscriptions.update(subscription.id, {"items": [{"id": item(subscription).id, "quantity": 3}]})

    waiting = business.client.v1.invoice_items.list({"customer": str(subscription.customer), "pending": True}).data
    assert [one.amount for one in waiting] == [3 * BASIC, -BASIC]
    business.wait_for_renewal(subscription)
    invoice = business.client.v1.invoices.retrieve(str(business.now(subscription).latest_invoice))
    assert [line.amount for line in invoice.lines.data] == [-BASIC, 3 * BASIC, 3 * BASIC]
    assert not business.client.v1.invoice_items.list({"customer": str(subscription.customer), "pending": True}).data


def test_another_interval_starts_a_new_cycle_today(business: Business) -> None:
    subscription = business.subscribe()
    business.stand_in.account.clock.advance(10 * DAY)

    yearly = business.client.v1.subscriptions.update(
        subscription.id, {"items": [{"id": item(subscription).id, "price": business.yearly.id}]}
    )

    now = business.latest_invoice(yearly).created
    assert (item(yearly).current_period_start, yearly.billing_cycle_anchor) == (now, now)
    assert item(yearly).current_period_end - now in (365 * DAY, 366 * DAY)
    invoice = business.client.v1.invoices.retrieve(str(yearly.latest_invoice))
    assert YEARLY - BASIC < invoice.total < YEARLY


def test_lists_by_status(business: Business) -> None:
    running, over = business.subscribe(), business.subscribe()
    business.client.v1.subscriptions.cancel(over.id)

    def listed(status: str = "") -> list[str]:
        params: Any = {"status": status} if status else {}
        found = business.client.v1.subscriptions.list(params)
        return [one.id for one in found.data]

    assert listed() == listed("active") == [running.id]
    assert listed("ended") == listed("canceled") == [over.id]
    assert listed("all") == [over.id, running.id]


def test_metadata_is_merged_and_cleared(business: Business) -> None:
    subscription = business.subscribe(metadata={"org": "1", "old": "x"})

    changed = business.client.v1.subscriptions.update(subscription.id, {"metadata": {"old": "", "operation": "7"}})

    assert changed.metadata.to_dict() == {"org": "1", "operation": "7"}
