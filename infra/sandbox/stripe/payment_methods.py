"""Cards: three that tell how a payment goes, and whose they are (docs.stripe.com/testing)."""

from __future__ import annotations

from typing import NamedTuple

from infra.sandbox.stripe.changes import changing, create
from infra.sandbox.stripe.objects import nulls
from infra.sandbox.stripe.paging import page_of
from infra.sandbox.stripe.params import required
from infra.sandbox.stripe.resources import collection
from infra.sandbox.stripe.shapes import fresh
from infra.sandbox.stripe.store import Account, Obj, StripeError
from infra.sandbox.stripe.wire import Operation


class Card(NamedTuple):
    """What a card looks like, and what happens to a charge: ok, declined, challenged, or ok and disputed at once."""

    brand: str
    last4: str
    outcome: str


CARDS = {
    "pm_card_visa": Card("visa", "4242", "ok"),
    "pm_card_mastercard": Card("mastercard", "4444", "ok"),
    "pm_card_chargeCustomerFail": Card("visa", "0341", "declined"),
    "pm_card_authenticationRequired": Card("visa", "3184", "challenged"),
    "pm_card_createDispute": Card("visa", "0259", "disputed"),
}


def outcome(method: Obj) -> str:
    """How a charge of this card goes."""
    return next(card.outcome for card in CARDS.values() if card.last4 == method["card"]["last4"])


def resolve(account: Account, token: str, param: str = "payment_method") -> Obj:
    """A kept payment method, or a fresh one for a test card's name. Raises Stripe's 404."""
    return make(account, CARDS[token]) if token in CARDS else account.store.get("payment_method", token, param)


def attached(account: Account, token: str, customer_id: str, param: str = "payment_method") -> Obj:
    """A payment method of this customer. Raises StripeError for somebody else's."""
    if token in CARDS:
        return attach(account, {"customer": customer_id}, token)
    method = account.store.get("payment_method", token, param)
    if method["customer"] != customer_id:
        text = "The customer does not have a payment method with the ID " + token
        raise StripeError(text, code="resource_missing", param=param)
    return method


def make(account: Account, card: Card) -> Obj:
    shown: Obj = {
        "brand": card.brand,
        "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
        "country": "US",
        "display_brand": card.brand,
        "exp_month": 12,
        "exp_year": 2034,
        "fingerprint": f"fingerprint{card.last4}",
        "funding": "credit",
        "last4": card.last4,
        "networks": {"available": [card.brand], "preferred": None},
        "regulated_status": "unregulated",
        "three_d_secure_usage": {"supported": True},
        **nulls("generated_from wallet"),
    }
    return create(account, fresh(account, "payment_method", "pm", card=shown))


def attach(account: Account, params: Obj, object_id: str) -> Obj:
    required(params, "customer")
    customer = account.store.get("customer", params["customer"], "customer")
    method = resolve(account, object_id)
    if method["customer"] not in (None, customer["id"]):
        raise StripeError("The payment method you provided has already been attached to a customer.")
    with changing(account, method, "payment_method.attached"):
        method["customer"] = customer["id"]
    return method


def detach(account: Account, params: Obj, object_id: str) -> Obj:
    """Takes it away from its customer, and from whatever had it as a default."""
    method = account.store.get("payment_method", object_id)
    if method["customer"] is None:
        raise StripeError("The payment method you provided is not attached to a customer so detachment is impossible.")
    customer = account.store.get("customer", method["customer"])
    with changing(account, method, "payment_method.detached"):
        method["customer"] = None
    if customer["invoice_settings"]["default_payment_method"] == object_id:
        with changing(account, customer, "customer.updated"):
            customer["invoice_settings"]["default_payment_method"] = None
    for one in account.store.of("subscription", default_payment_method=object_id):
        with changing(account, one, "customer.subscription.updated"):
            one["default_payment_method"] = None
    return method


def usual(account: Account, customer_id: str, subscription: Obj | None) -> str | None:
    """The id of the card that pays if nobody says otherwise: the subscription's own, or the customer's."""
    own = subscription["default_payment_method"] if subscription else None
    found: str | None = own or account.store.get("customer", customer_id)["invoice_settings"]["default_payment_method"]
    return found


def set_default(account: Account, customer: Obj, token: str) -> Obj:
    """Attach if need be and make it what the customer's invoices are paid with. Answers the payment method."""
    method = attached(account, token, customer["id"], "invoice_settings[default_payment_method]")
    with changing(account, customer, "customer.updated"):
        customer["invoice_settings"]["default_payment_method"] = method["id"]
    return method


def _list(account: Account, params: Obj, customer_id: str) -> Obj:
    every = account.store.of("payment_method", customer=customer_id)
    return page_of(every, params, f"/v1/customers/{customer_id}/payment_methods")


OPERATIONS: list[Operation] = [
    *collection("payment_method", "/v1/payment_methods", "customer"),
    ("POST", "/v1/payment_methods/{object_id}/attach", attach),
    ("POST", "/v1/payment_methods/{object_id}/detach", detach),
    ("GET", "/v1/customers/{customer_id}/payment_methods", _list),
]
