"""Money at the stand-in: cards and challenges, refunds, disputes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import stripe

from infra.sandbox.stripe import disputes, payments, refunds
from tests.sandbox.stripe.business import BASIC, DAY, HOUR, Business

GOOD, DECLINED, CHALLENGED = "pm_card_visa", "pm_card_chargeCustomerFail", "pm_card_authenticationRequired"
MADE = ("payment_intent.created", "refund.created")


def test_a_card_belongs_to_one_customer(business: Business) -> None:
    v1 = business.client.v1
    ada, bob = business.customer(), business.customer()
    method = v1.payment_methods.list({"customer": ada.id}).data[0]

    with pytest.raises(stripe.InvalidRequestError):
        v1.payment_methods.attach(method.id, {"customer": bob.id})
    with pytest.raises(stripe.InvalidRequestError):
        business.use_card(bob, method.id)

    v1.payment_methods.detach(method.id)
    settings = v1.customers.retrieve(ada.id).invoice_settings
    assert settings
    assert settings.default_payment_method is None


@pytest.mark.parametrize(("card", "status"), [(GOOD, "succeeded"), (CHALLENGED, "requires_action")])
def test_a_payment_intent_goes_as_its_card_does(business: Business, card: str, status: str) -> None:
    intent = business.client.v1.payment_intents.create(
        {"amount": 500, "currency": "usd", "payment_method": card, "confirm": True}
    )

    assert intent.status == status


def test_a_declined_card_is_a_402_that_names_the_intent(business: Business) -> None:
    known = len(business.events())

    with pytest.raises(stripe.CardError) as declined:
        business.client.v1.payment_intents.create(
            {"amount": 500, "currency": "usd", "payment_method": DECLINED, "confirm": True}
        )

    assert (declined.value.http_status, declined.value.code) == (402, "card_declined")
    assert business.types(known)[-2:] == ["charge.failed", "payment_intent.payment_failed"]
    charge = business.client.v1.charges.list().data[0]
    assert (charge.status, charge.failure_code, charge.paid) == ("failed", "card_declined", False)


def test_a_challenge_can_be_passed_or_failed(business: Business) -> None:
    v1, account = business.client.v1, business.stand_in.account
    subscription = business.subscribe(business.customer(CHALLENGED))
    assert subscription.status == "incomplete"
    payment = v1.invoice_payments.list({"invoice": str(subscription.latest_invoice)}).data[0].payment
    intent = v1.payment_intents.retrieve(str(payment.payment_intent))
    assert intent.next_action
    assert intent.next_action.redirect_to_url
    assert intent.next_action.redirect_to_url.url == f"{business.stand_in.address}/3ds/{intent.id}"

    payments.confirm(account, intent.id, ok=False)

    assert business.now(subscription).status == "incomplete"
    failed = v1.payment_intents.retrieve(intent.id)
    assert failed.status == "requires_payment_method"
    with pytest.raises(stripe.CardError) as waits:
        v1.invoices.pay(str(subscription.latest_invoice))
    assert waits.value.code == "invoice_payment_intent_requires_action"
    payments.confirm(account, intent.id, ok=True)
    assert business.now(subscription).status == "active"


def test_a_payment_intent_is_paid_once(business: Business) -> None:
    v1 = business.client.v1
    intent = v1.payment_intents.create({"amount": 500, "currency": "usd", "payment_method": GOOD, "confirm": True})

    with pytest.raises(stripe.InvalidRequestError) as refused:
        v1.payment_intents.confirm(intent.id, {"payment_method": GOOD})

    assert refused.value.code == "payment_intent_unexpected_state"
    assert len(v1.charges.list().data) == 1


def test_confirming_the_intent_of_an_invoice_pays_the_invoice(business: Business) -> None:
    """The way of whoever collects cards on a page of their own: the subscription waits for the intent."""
    subscription = business.subscribe(payment_behavior="default_incomplete", expand=["latest_invoice.payments"])
    invoice: Any = subscription.latest_invoice
    intent = str(invoice.payments.data[0].payment.payment_intent)

    with pytest.raises(stripe.CardError):
        business.client.v1.payment_intents.confirm(intent, {"payment_method": DECLINED})
    assert business.now(subscription).status == "incomplete"
    business.client.v1.payment_intents.confirm(intent, {"payment_method": GOOD})

    assert (business.now(subscription).status, business.latest_invoice(subscription).status) == ("active", "paid")


def test_what_an_event_tells_of_a_new_object_has_its_metadata(business: Business) -> None:
    business.client.v1.payment_intents.create({"amount": 5, "currency": "usd", "metadata": {"a": "1"}})
    business.client.v1.refunds.create({"charge": _charge(business).id, "metadata": {"a": "2"}})

    told = [one.data.to_dict()["object"]["metadata"] for one in business.events() if one.type in MADE]
    assert told == [{"a": "1"}, {}, {"a": "2"}]


def test_partial_refunds_add_up_and_never_exceed_the_charge(business: Business) -> None:
    v1, charge = business.client.v1, _charge(business)

    v1.refunds.create({"charge": charge.id, "amount": 300})
    v1.refunds.create({"payment_intent": str(charge.payment_intent), "amount": 200})
    with pytest.raises(stripe.InvalidRequestError):
        v1.refunds.create({"charge": charge.id, "amount": BASIC - 499})
    assert v1.charges.retrieve(charge.id).refunded is False
    v1.refunds.create({"charge": charge.id})

    shown = v1.charges.retrieve(charge.id, {"expand": ["refunds"]})
    assert (shown.amount_refunded, shown.refunded) == (BASIC, True)
    assert shown.refunds
    assert sum(one.amount for one in shown.refunds.data) == BASIC
    with pytest.raises(stripe.InvalidRequestError) as again:
        v1.refunds.create({"charge": charge.id})
    assert again.value.code == "charge_already_refunded"


def test_a_failed_refund_counts_no_more(business: Business) -> None:
    charge = _charge(business)
    made = business.client.v1.refunds.create({"charge": charge.id})

    refunds.fail(business.stand_in.account, made.id)

    shown = business.client.v1.charges.retrieve(charge.id)
    assert (shown.amount_refunded, shown.refunded) == (0, False)
    assert business.client.v1.refunds.retrieve(made.id).status == "failed"
    assert "refund.failed" in business.types()


@pytest.mark.parametrize(
    ("text", "status", "last"),
    [
        ("winning_evidence", "won", "charge.dispute.funds_reinstated"),
        ("losing_evidence", "lost", "charge.dispute.closed"),
    ],
)
def test_a_dispute_is_answered_and_decided(business: Business, text: str, status: str, last: str) -> None:
    charge, known = _charge(business), len(business.events())

    dispute = disputes.open_dispute(business.stand_in.account, charge.id)
    decided = business.client.v1.disputes.update(dispute["id"], {"evidence": {"uncategorized_text": text}})

    assert (decided.status, business.client.v1.charges.retrieve(charge.id).disputed) == (status, True)
    types = business.types(known)
    assert types[:4] == [
        "charge.updated",
        "charge.dispute.created",
        "charge.dispute.funds_withdrawn",
        "charge.dispute.updated",
    ]
    assert types[-1] == last
    with pytest.raises(stripe.InvalidRequestError):
        business.client.v1.disputes.close(dispute["id"])


def test_a_dispute_is_opened_and_decided_over_http(business: Business) -> None:
    url, charge = f"{business.stand_in.address}/sandbox/disputes", _charge(business)

    opened = httpx.post(url, json={"charge": charge.id}).json()
    httpx.post(url, json={"dispute": opened["id"], "won": True})

    assert business.client.v1.disputes.retrieve(opened["id"]).status == "won"
    assert httpx.post(url, json={"charge": charge.id}).status_code == 400


def test_a_dispute_that_nobody_answers_is_lost(business: Business) -> None:
    subscription = business.subscribe(business.customer("pm_card_createDispute"))
    assert subscription.status == "active"
    (dispute,) = business.client.v1.disputes.list().data

    business.wait(7 * DAY)

    assert business.client.v1.disputes.retrieve(dispute.id).status == "lost"


def test_an_hour_passes_between_renewal_and_charge(business: Business) -> None:
    """A refund of the old period's charge says nothing about the new one."""
    subscription = business.subscribe()
    business.wait_for_renewal(subscription, after=HOUR)
    new, old = business.client.v1.charges.list({"customer": str(subscription.customer)}).data

    business.client.v1.refunds.create({"charge": old.id})

    assert business.client.v1.charges.retrieve(new.id).refunded is False
    assert business.now(subscription).status == "active"


def _charge(business: Business) -> stripe.Charge:
    subscription = business.subscribe()
    return business.client.v1.charges.list({"customer": str(subscription.customer)}).data[0]
