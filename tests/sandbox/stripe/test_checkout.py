"""Checkout sessions and the portal's verbs, without their pages."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from infra.sandbox.stripe import checkout, payments, portal
from infra.sandbox.stripe.store import StripeError
from tests.sandbox.stripe.business import BASIC, DAY, Business, item

GOOD, DECLINED, CHALLENGED = "pm_card_visa", "pm_card_chargeCustomerFail", "pm_card_authenticationRequired"


def test_checkout_sells_a_subscription(business: Business) -> None:
    session, known = _checkout(business, client_reference_id="org-7", metadata={"a": "b"}), len(business.events())

    checkout.complete(business.stand_in.account, session.id, GOOD)

    done = business.client.v1.checkout.sessions.retrieve(session.id, {"expand": ["subscription", "line_items"]})
    assert (done.status, done.payment_status, done.url) == ("complete", "paid", None)
    assert (done.client_reference_id, done.metadata and done.metadata.to_dict()) == ("org-7", {"a": "b"})
    subscription: Any = done.subscription
    assert (subscription.status, subscription.metadata.to_dict()) == ("active", {"org": "7"})
    assert done.line_items
    assert done.line_items.data[0].amount_total == 2 * BASIC
    types = business.types(known)
    assert types[-1] == "checkout.session.completed"
    assert types.index("customer.subscription.created") < types.index("invoice.paid") < len(types) - 1


def test_a_declined_checkout_stays_open_and_leaves_no_subscription(business: Business) -> None:
    session = _checkout(business)

    with pytest.raises(StripeError, match="declined"):
        checkout.complete(business.stand_in.account, session.id, DECLINED)

    assert business.client.v1.checkout.sessions.retrieve(session.id).status == "open"
    assert business.client.v1.subscriptions.list({"status": "all"}).data == []
    checkout.complete(business.stand_in.account, session.id, GOOD)
    assert business.client.v1.checkout.sessions.retrieve(session.id).status == "complete"


@pytest.mark.parametrize(("ok", "outcome", "status"), [(True, "succeeded", "active"), (False, "failed", "incomplete")])
def test_a_bank_debit_completes_a_checkout_before_there_is_money(
    business: Business, ok: bool, outcome: str, status: str
) -> None:
    v1, account, session = business.client.v1, business.stand_in.account, _checkout(business)

    checkout.complete_by_debit(account, session.id)

    done = v1.checkout.sessions.retrieve(session.id)
    assert (done.status, done.payment_status) == ("complete", "unpaid")
    (subscription,) = v1.subscriptions.list({"status": "all"}).data
    assert subscription.status == "incomplete"
    assert [one.status for one in v1.payment_intents.list().data] == ["processing"]
    known = len(business.events())
    checkout.debit_is_over(account, session.id, ok=ok)
    assert business.types(known)[-1] == f"checkout.session.async_payment_{outcome}"
    assert v1.checkout.sessions.retrieve(session.id).payment_status == ("paid" if ok else "unpaid")
    assert business.now(subscription).status == status


@pytest.mark.parametrize("passes", [True, False])
def test_a_challenge_at_checkout(business: Business, passes: bool) -> None:
    account, session = business.stand_in.account, _checkout(business)

    checkout.complete(account, session.id, CHALLENGED)
    waiting = checkout.challenge(account, session.id)
    assert waiting
    payments.confirm(account, waiting, ok=passes)

    done = business.client.v1.checkout.sessions.retrieve(session.id)
    assert done.status == ("complete" if passes else "open")
    if not passes:
        checkout.complete(account, session.id, GOOD)
        assert business.client.v1.checkout.sessions.retrieve(session.id).status == "complete"
    (subscription,) = business.client.v1.subscriptions.list().data
    assert subscription.status == "active"


def test_two_open_sessions_paid_are_two_subscriptions_and_one_session_only_one(business: Business) -> None:
    account, customer = business.stand_in.account, business.customer(card="")
    first, second = _checkout(business, customer=customer.id), _checkout(business, customer=customer.id)

    checkout.complete(account, first.id, GOOD)
    checkout.complete(account, second.id, GOOD)
    with pytest.raises(StripeError, match="complete"):
        checkout.complete(account, second.id, GOOD)

    assert len(business.client.v1.subscriptions.list({"customer": customer.id}).data) == 2


def test_a_trial_at_checkout_asks_for_no_payment_today(business: Business) -> None:
    session = _checkout(business, subscription_data={"trial_period_days": 14})

    checkout.complete(business.stand_in.account, session.id, GOOD)

    done = business.client.v1.checkout.sessions.retrieve(session.id, {"expand": ["subscription"]})
    subscription: Any = done.subscription
    assert (done.payment_status, done.amount_total, subscription.status) == ("no_payment_required", 0, "trialing")


def test_a_session_expires_by_itself_or_when_told(business: Business) -> None:
    v1 = business.client.v1
    told, left = _checkout(business), _checkout(business)

    v1.checkout.sessions.expire(told.id)
    business.wait(DAY)

    assert v1.checkout.sessions.retrieve(told.id).status == v1.checkout.sessions.retrieve(left.id).status == "expired"
    assert business.types().count("checkout.session.expired") == 2
    with pytest.raises(StripeError):
        checkout.complete(business.stand_in.account, left.id, GOOD)


def test_the_portal_cancels_by_a_moment_alone_and_takes_it_back(business: Business) -> None:
    account, subscription = business.stand_in.account, business.subscribe()

    portal.cancel(account, subscription.id)

    ending = business.now(subscription)
    assert (ending.cancel_at, ending.cancel_at_period_end) == (item(subscription).current_period_end, False)
    portal.keep(account, subscription.id)
    kept = business.now(subscription)
    assert (kept.cancel_at, kept.canceled_at) == (None, None)


def test_the_portal_sets_the_flag_in_classic_billing_mode(business: Business) -> None:
    subscription = business.subscribe(billing_mode={"type": "classic"})

    portal.cancel(business.stand_in.account, subscription.id)

    assert business.now(subscription).cancel_at_period_end is True


def test_the_portal_changes_plan_and_card(business: Business) -> None:
    account, subscription = business.stand_in.account, business.subscribe()
    known = len(business.events())

    portal.change_card(account, str(subscription.customer), GOOD)
    portal.change(account, subscription.id, business.pro.id, 3)

    changed = item(business.now(subscription))
    assert (changed.id, changed.price.id, changed.quantity) == (item(subscription).id, business.pro.id, 3)
    expected = ["payment_method.attached", "setup_intent.created", "setup_intent.succeeded", "customer.updated"]
    assert business.types(known)[:4] == expected


def test_a_portal_session_leads_to_its_page(business: Business) -> None:
    session = business.client.v1.billing_portal.sessions.create(
        {"customer": business.customer().id, "return_url": "http://127.0.0.1:9/billing"}
    )

    assert session.url == f"{business.stand_in.address}/portal/{session.id}"
    (configuration,) = business.client.v1.billing_portal.configurations.list().data
    assert (configuration.id, configuration.is_default) == (session.configuration, True)


def _checkout(business: Business, **more: Any) -> stripe.checkout.Session:
    params: Any = {
        "mode": "subscription",
        "line_items": [{"price": business.basic.id, "quantity": 2}],
        "success_url": "http://127.0.0.1:9/done?session={CHECKOUT_SESSION_ID}",
        "subscription_data": {"metadata": {"org": "7"}},
    }
    return business.client.v1.checkout.sessions.create(params | more)
