"""How a subscription of the stand-in begins with a trial, pauses, fails to be paid for, and ends."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from tests.sandbox.stripe.business import BASIC, DAY, HOUR, Business, item


def test_a_cancellation_at_the_end_is_kept_by_both_fields(business: Business) -> None:
    subscription = business.subscribe()

    ending = business.client.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})

    assert (ending.status, ending.cancel_at_period_end) == ("active", True)
    assert ending.cancel_at == item(subscription).current_period_end
    business.wait_for_renewal(subscription)
    ended = business.now(subscription)
    assert (ended.status, ended.ended_at) == ("canceled", ending.cancel_at)


def test_a_cancellation_may_be_a_moment_alone(business: Business) -> None:
    subscription = business.subscribe()

    ending = business.client.v1.subscriptions.update(subscription.id, {"cancel_at": "min_period_end"})

    assert (ending.cancel_at, ending.cancel_at_period_end) == (item(subscription).current_period_end, False)


@pytest.mark.parametrize("way", ["cancel_at_period_end", "cancel_at"])
def test_an_empty_moment_takes_a_cancellation_back(business: Business, way: str) -> None:
    subscription = business.subscribe()
    given: Any = {"cancel_at_period_end": True} if way == "cancel_at_period_end" else {"cancel_at": "min_period_end"}
    business.client.v1.subscriptions.update(subscription.id, given)

    kept = business.client.v1.subscriptions.update(subscription.id, {"cancel_at": ""})

    assert (kept.cancel_at, kept.cancel_at_period_end, kept.canceled_at) == (None, False, None)
    business.wait_for_renewal(subscription)
    assert business.now(subscription).status == "active"


def test_the_flag_does_not_take_back_a_moment(business: Business) -> None:
    subscription = business.subscribe()
    ending = business.client.v1.subscriptions.update(subscription.id, {"cancel_at": "min_period_end"})

    business.client.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": False})

    assert business.now(subscription).cancel_at == ending.cancel_at


def test_a_cancellation_now_is_final(business: Business) -> None:
    subscription = business.subscribe()

    ended = business.client.v1.subscriptions.cancel(subscription.id, {"prorate": True, "invoice_now": True})

    credit = business.client.v1.invoices.retrieve(str(ended.latest_invoice))
    assert (ended.status, ended.ended_at) == ("canceled", credit.created)
    assert (credit.status, credit.total) == ("paid", -BASIC)
    assert business.client.v1.customers.retrieve(str(subscription.customer)).balance == -BASIC
    with pytest.raises(stripe.InvalidRequestError):
        business.upgrade(subscription)
    business.stand_in.account.clock.advance(40 * DAY)
    assert business.now(subscription).status == "canceled"


def test_a_trial_costs_nothing_and_says_when_it_ends(business: Business) -> None:
    known = len(business.events())

    subscription = business.subscribe(trial_period_days=14)

    assert subscription.status == "trialing"
    assert subscription.trial_end == item(subscription).current_period_end
    business.stand_in.account.clock.advance(11 * DAY)
    assert business.types(known).count("customer.subscription.trial_will_end") == 1
    business.stand_in.account.clock.advance(3 * DAY + HOUR)
    after = business.now(subscription)
    invoice = business.client.v1.invoices.retrieve(str(after.latest_invoice))
    assert (after.status, invoice.status, invoice.total) == ("active", "paid", BASIC)


def test_a_short_trial_announces_its_end_at_once(business: Business) -> None:
    known = len(business.events())

    business.subscribe(trial_period_days=1)
    business.stand_in.account.clock.advance(HOUR)

    assert business.types(known).count("customer.subscription.trial_will_end") == 1


@pytest.mark.parametrize(("setting", "status"), [("pause", "paused"), ("cancel", "canceled")])
def test_a_trial_without_a_card_ends_as_it_was_told(business: Business, setting: str, status: str) -> None:
    settings = {"end_behavior": {"missing_payment_method": setting}}
    subscription = business.subscribe(business.customer(card=""), trial_period_days=7, trial_settings=settings)

    business.wait_for_renewal(subscription)

    assert business.now(subscription).status == status


def test_a_paused_subscription_resumes(business: Business) -> None:
    settings = {"end_behavior": {"missing_payment_method": "pause"}}
    subscription = business.subscribe(business.customer(card=""), trial_period_days=7, trial_settings=settings)
    business.wait_for_renewal(subscription)
    business.use_card(subscription.customer, "pm_card_visa")

    business.client.v1.subscriptions.resume(subscription.id)

    assert business.now(subscription).status == "active"


@pytest.mark.parametrize(
    ("card", "status", "invoice"),
    [("pm_card_visa", "active", "paid"), ("pm_card_chargeCustomerFail", "past_due", "open")],
)
def test_a_resumed_subscription_starts_its_cycle_today_and_pays_for_it(
    business: Business, card: str, status: str, invoice: str
) -> None:
    settings = {"end_behavior": {"missing_payment_method": "pause"}}
    subscription = business.subscribe(business.customer(card=""), trial_period_days=7, trial_settings=settings)
    business.wait_for_renewal(subscription, after=65 * DAY)
    business.use_card(subscription.customer, card)
    today = business.stand_in.account.now()

    business.client.v1.subscriptions.resume(subscription.id)
    business.wait(HOUR)

    resumed = business.now(subscription)
    assert resumed.status == status
    assert 0 <= item(resumed).current_period_start - today < HOUR
    assert resumed.billing_cycle_anchor == item(resumed).current_period_start
    made = [one.status for one in business.client.v1.invoices.list({"subscription": subscription.id}).data]
    assert made == [invoice, "paid"], "one for the trial, one for today, none for the time in between"


@pytest.mark.parametrize(
    ("behavior", "status"), [("void", "void"), ("mark_uncollectible", "uncollectible"), ("keep_as_draft", "draft")]
)
def test_paused_collection_renews_without_money(business: Business, behavior: str, status: str) -> None:
    subscription = business.subscribe()
    pause: Any = {"pause_collection": {"behavior": behavior}}
    business.client.v1.subscriptions.update(subscription.id, pause)

    business.wait_for_renewal(subscription, after=2 * HOUR)

    renewed = business.now(subscription)
    assert renewed.status == "active"
    assert business.client.v1.invoices.retrieve(str(renewed.latest_invoice)).status == status
    assert business.client.v1.subscriptions.update(subscription.id, {"pause_collection": ""}).pause_collection is None


def test_a_first_payment_that_fails_leaves_it_incomplete_for_23_hours(business: Business) -> None:
    subscription = business.subscribe(business.customer("pm_card_chargeCustomerFail"))

    assert subscription.status == "incomplete"
    business.stand_in.account.clock.advance(23 * HOUR)
    expired = business.now(subscription)
    assert expired.status == "incomplete_expired"
    assert business.client.v1.invoices.retrieve(str(expired.latest_invoice)).status == "void"


def test_an_incomplete_subscription_lives_when_its_invoice_is_paid(business: Business) -> None:
    subscription = business.subscribe(business.customer(card=""), payment_behavior="default_incomplete")
    assert subscription.status == "incomplete"

    business.client.v1.invoices.pay(str(subscription.latest_invoice), {"payment_method": "pm_card_visa"})

    assert business.now(subscription).status == "active"


def test_a_customer_without_a_card_cannot_subscribe(business: Business) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="no attached payment source"):
        business.subscribe(business.customer(card=""))

    assert not business.client.v1.subscriptions.list({"status": "all"}).data


def test_a_deleted_customer_takes_subscriptions_along(business: Business) -> None:
    customer = business.customer()
    subscription = business.subscribe(customer)

    business.client.v1.customers.delete(customer.id)

    assert business.now(subscription).status == "canceled"
    assert business.client.v1.customers.retrieve(customer.id).deleted is True
    business.stand_in.account.clock.advance(40 * DAY)
    assert business.types()[-1] == "customer.deleted"


def test_nobody_duns_a_deleted_customer(business: Business) -> None:
    subscription = business.subscribe()
    business.use_card(subscription.customer, "pm_card_chargeCustomerFail")
    business.wait_for_renewal(subscription, after=HOUR)
    owed = business.latest_invoice(subscription)

    business.client.v1.customers.delete(str(subscription.customer))
    business.wait(40 * DAY)

    assert (business.now(subscription).status, business.client.v1.invoices.retrieve(owed.id).status) == (
        "canceled",
        "void",
    )
