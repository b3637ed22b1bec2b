"""Invoices of the stand-in: renewal and its hour as a draft, dunning, previews, credit."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from infra.sandbox.stripe import payments
from tests.sandbox.stripe.business import BASIC, DAY, HOUR, Business, item

DUNNING = 16 * DAY


def test_a_renewal_rolls_the_period_at_once_and_takes_the_money_an_hour_later(business: Business) -> None:
    subscription = business.subscribe()
    end, known = item(subscription).current_period_end, len(business.events())

    business.wait_for_renewal(subscription)

    renewed, invoice = business.now(subscription), business.latest_invoice(subscription)
    assert (renewed.status, item(renewed).current_period_start) == ("active", end)
    assert (invoice.status, invoice.billing_reason, invoice.amount_paid) == ("draft", "subscription_cycle", 0)
    assert invoice.automatically_finalizes_at == end + HOUR
    assert business.types(known) == ["invoice.upcoming", "customer.subscription.updated", "invoice.created"]
    business.wait(HOUR)
    invoice = business.latest_invoice(subscription)
    assert (invoice.status, invoice.amount_paid, invoice.attempt_count) == ("paid", BASIC, 1)
    assert business.types(known)[3:] == [
        "invoice.finalized",
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "invoice.paid",
        "invoice.payment_succeeded",
        "invoice_payment.paid",
    ]


def test_a_renewal_tells_the_period_before(business: Business) -> None:
    subscription = business.subscribe()

    business.wait_for_renewal(subscription)

    updated = next(one for one in reversed(business.events()) if one.type == "customer.subscription.updated")
    before = updated.data.to_dict()["previous_attributes"]
    assert before["items"]["data"][0]["current_period_end"] == item(subscription).current_period_end
    assert before["latest_invoice"] == subscription.latest_invoice


def test_an_upgrade_in_the_moment_the_cycle_closes_makes_about_24_events(business: Business) -> None:
    subscription = business.subscribe(quantity=1000)
    business.wait_for_renewal(subscription, after=-60)
    known = len(business.events())

    business.upgrade(subscription)
    business.wait(60 + HOUR)

    assert 20 <= len(business.types(known)) <= 24
    final = business.now(subscription)
    assert (item(final).price.id, final.status, business.latest_invoice(subscription).status) == (
        business.pro.id,
        "active",
        "paid",
    )


def test_a_month_keeps_its_day_where_it_can(business: Business) -> None:
    # 31 January 2027, noon.
    business.stand_in.account.clock.advance_to(1_801_396_800)
    subscription = business.subscribe()

    moment, ends = item(subscription).current_period_start % DAY, []
    for _ in range(3):
        ends.append(item(business.now(subscription)).current_period_end)
        business.wait_for_renewal(subscription)

    # 28 February, 31 March, 30 April at midnight, and the second of the day at which it began: the clock goes on.
    assert [end - moment for end in ends] == [1_803_772_800, 1_806_451_200, 1_809_043_200]


@pytest.mark.parametrize(
    ("setting", "status", "last"),
    [("cancel", "canceled", "uncollectible"), ("unpaid", "unpaid", "open"), ("past_due", "past_due", "open")],
)
def test_dunning_tries_four_times_and_then_does_what_the_setting_says(
    business: Business, setting: str, status: str, last: str
) -> None:
    business.stand_in.knobs = business.stand_in.knobs.model_copy(update={"end_of_dunning": setting})
    subscription = business.subscribe()
    business.use_card(subscription.customer, "pm_card_chargeCustomerFail")
    known = len(business.events())

    business.wait_for_renewal(subscription, after=HOUR)

    assert business.now(subscription).status == "past_due"
    assert business.client.v1.customers.retrieve(str(subscription.customer)).delinquent is True
    failed = business.latest_invoice(subscription)
    assert failed.next_payment_attempt == (failed.status_transitions.finalized_at or 0) + 3 * DAY
    business.wait(DUNNING)
    invoice = business.latest_invoice(subscription)
    assert (business.now(subscription).status, invoice.status) == (status, last)
    assert (invoice.attempt_count, invoice.next_payment_attempt) == (4, None)
    counts = [
        one.data.to_dict()["object"]["attempt_count"]
        for one in business.events(known)
        if one.type == "invoice.payment_failed"
    ]
    assert counts == [1, 2, 3, 4]


def test_a_better_card_ends_the_dunning(business: Business) -> None:
    subscription = business.subscribe()
    business.use_card(subscription.customer, "pm_card_chargeCustomerFail")
    business.wait_for_renewal(subscription, after=HOUR)

    business.use_card(subscription.customer, "pm_card_visa")
    business.wait(3 * DAY)

    assert business.now(subscription).status == "active"
    assert business.client.v1.customers.retrieve(str(subscription.customer)).delinquent is False
    assert (business.latest_invoice(subscription).status, business.latest_invoice(subscription).attempt_count) == (
        "paid",
        2,
    )


def test_a_persons_attempt_does_not_advance_the_ladder(business: Business) -> None:
    subscription = business.subscribe()
    business.use_card(subscription.customer, "pm_card_chargeCustomerFail")
    business.wait_for_renewal(subscription, after=HOUR)
    before = business.latest_invoice(subscription)

    with pytest.raises(stripe.CardError):
        business.client.v1.invoices.pay(before.id)

    after = business.latest_invoice(subscription)
    assert (after.attempt_count, after.next_payment_attempt) == (before.attempt_count, before.next_payment_attempt)


def test_a_renewal_may_ask_for_the_person(business: Business) -> None:
    subscription = business.subscribe()
    business.use_card(subscription.customer, "pm_card_authenticationRequired")
    known = len(business.events())

    business.wait_for_renewal(subscription, after=HOUR)

    assert business.now(subscription).status == "past_due"
    assert "invoice.payment_action_required" in business.types(known)
    paid_by = _intent(business, business.latest_invoice(subscription).id)
    payments.confirm(business.stand_in.account, paid_by.id, ok=True)
    assert (business.now(subscription).status, business.latest_invoice(subscription).status) == ("active", "paid")


def test_a_preview_is_what_the_upgrade_then_costs(business: Business) -> None:
    subscription = business.subscribe(quantity=3)
    business.wait(9 * DAY)
    moment, known = business.stand_in.account.now(), len(business.events())
    items: Any = [{"id": item(subscription).id, "price": business.pro.id}]
    details: Any = {"items": items, "proration_behavior": "always_invoice", "proration_date": moment}

    preview = business.client.v1.invoices.create_preview(
        {"subscription": subscription.id, "subscription_details": details}
    )

    assert business.types(known) == []
    assert business.now(subscription).to_dict() == subscription.to_dict()
    business.wait(600)
    business.upgrade(subscription, proration_date=moment)
    charged = business.latest_invoice(subscription)
    assert preview.total == charged.total > 0
    assert [one.amount for one in preview.lines.data] == [one.amount for one in charged.lines.data]


def test_a_preview_that_costs_nothing_has_the_subscriptions_currency(business: Business) -> None:
    subscription = business.subscribe(trial_period_days=14)
    items: Any = [{"id": item(subscription).id, "price": business.pro.id}]
    details: Any = {"items": items, "proration_behavior": "always_invoice"}

    preview = business.client.v1.invoices.create_preview(
        {"subscription": subscription.id, "subscription_details": details}
    )

    assert (preview.lines.data, preview.currency) == ([], subscription.currency)


def test_a_preview_without_changes_is_the_next_renewal(business: Business) -> None:
    subscription = business.subscribe(quantity=2)

    preview = business.client.v1.invoices.create_preview({"subscription": subscription.id})

    (line,) = preview.lines.data
    assert (preview.total, line.period.start) == (2 * BASIC, item(subscription).current_period_end)
    business.client.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        business.client.v1.invoices.create_preview({"subscription": subscription.id})
    assert refused.value.code == "invoice_upcoming_none"


def test_a_downgrade_gives_credit_that_the_next_invoice_uses(business: Business) -> None:
    subscription = business.subscribe(quantity=5)

    business.client.v1.subscriptions.update(
        subscription.id,
        {"items": [{"id": item(subscription).id, "quantity": 4}], "proration_behavior": "always_invoice"},
    )

    credit = business.latest_invoice(subscription)
    assert (credit.status, credit.total, credit.amount_due, credit.ending_balance) == ("paid", -BASIC, 0, -BASIC)
    business.wait_for_renewal(subscription, after=HOUR)
    renewal = business.latest_invoice(subscription)
    assert (renewal.total, renewal.amount_paid, renewal.starting_balance) == (4 * BASIC, 3 * BASIC, -BASIC)
    assert business.client.v1.customers.retrieve(str(subscription.customer)).balance == 0


def test_an_invoice_by_hand(business: Business) -> None:
    customer = business.customer()
    business.client.v1.invoice_items.create({"customer": customer.id, "amount": 700, "description": "Setup"})

    invoice = business.client.v1.invoices.create({"customer": customer.id})

    assert (invoice.status, invoice.total, invoice.billing_reason, invoice.parent) == ("draft", 700, "manual", None)
    assert business.client.v1.invoices.finalize_invoice(invoice.id).number
    assert business.client.v1.invoices.pay(invoice.id).status == "paid"
    with pytest.raises(stripe.InvalidRequestError, match="already paid"):
        business.client.v1.invoices.pay(invoice.id)


def test_an_invoice_by_hand_that_advances_by_itself_is_paid_after_its_hour(business: Business) -> None:
    customer = business.customer()
    business.client.v1.invoice_items.create({"customer": customer.id, "amount": 700, "currency": "eur"})
    draft = business.client.v1.invoices.create({"customer": customer.id, "auto_advance": True})

    business.wait(HOUR)

    assert business.client.v1.invoices.retrieve(draft.id).status == "paid"


def test_a_voided_invoice_is_not_paid(business: Business) -> None:
    customer = business.customer()
    business.client.v1.invoice_items.create({"customer": customer.id, "amount": 700})
    invoice = business.client.v1.invoices.create({"customer": customer.id})
    business.client.v1.invoices.finalize_invoice(invoice.id)

    voided = business.client.v1.invoices.void_invoice(invoice.id)

    assert voided.status == "void"
    with pytest.raises(stripe.InvalidRequestError, match="voided"):
        business.client.v1.invoices.pay(invoice.id)
    assert _intent(business, invoice.id).status == "canceled"


def test_invoices_are_listed_by_subscription_and_status(business: Business) -> None:
    subscription, other = business.subscribe(), business.subscribe()
    business.wait_for_renewal(subscription)

    listed = business.client.v1.invoices.list({"subscription": subscription.id, "status": "draft"}).data

    assert [one.id for one in listed] == [business.now(subscription).latest_invoice]
    assert business.now(other).latest_invoice not in [one.id for one in listed]


def test_a_credit_note_lowers_what_is_due_or_gives_back(business: Business) -> None:
    subscription = business.subscribe()
    invoice = business.latest_invoice(subscription)

    note = business.client.v1.credit_notes.create({"invoice": invoice.id, "amount": 400, "refund_amount": 300})

    assert (note.type, note.status) == ("post_payment", "issued")
    assert business.client.v1.customers.retrieve(str(subscription.customer)).balance == -100
    assert business.client.v1.charges.list({"customer": str(subscription.customer)}).data[0].amount_refunded == 300
    assert business.latest_invoice(subscription).post_payment_credit_notes_amount == 400
    with pytest.raises(stripe.InvalidRequestError):
        business.client.v1.credit_notes.create({"invoice": invoice.id, "amount": BASIC})


def test_a_credit_note_of_all_that_is_due_pays_the_invoice(business: Business) -> None:
    subscription = business.subscribe(business.customer("pm_card_chargeCustomerFail"))
    invoice = business.latest_invoice(subscription)

    business.client.v1.credit_notes.create({"invoice": invoice.id, "amount": BASIC})

    settled = business.latest_invoice(subscription)
    assert (settled.status, settled.amount_due, settled.amount_paid) == ("paid", 0, 0)
    assert business.now(subscription).status == "active"
    assert _intent(business, invoice.id).status == "canceled"


def _intent(business: Business, invoice_id: str) -> stripe.PaymentIntent:
    payment = business.client.v1.invoice_payments.list({"invoice": invoice_id}).data[0].payment
    return business.client.v1.payment_intents.retrieve(str(payment.payment_intent))
