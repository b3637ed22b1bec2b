"""Payment intents and their charges: money that moves, fails, or waits for the person (3-D Secure)."""

from __future__ import annotations

from collections.abc import Callable

from infra.sandbox.stripe import payment_methods
from infra.sandbox.stripe.changes import changing, create
from infra.sandbox.stripe.disputes import open_dispute
from infra.sandbox.stripe.objects import nulls
from infra.sandbox.stripe.params import boolean, integer, merge_metadata, required
from infra.sandbox.stripe.resources import collection, fill_metadata, updated
from infra.sandbox.stripe.shapes import fresh
from infra.sandbox.stripe.store import Account, Obj, StripeError
from infra.sandbox.stripe.wire import Operation

DECLINED = "Your card was declined."
UNFINISHED = ("requires_payment_method", "requires_confirmation", "requires_action")
# Told of an intent that was confirmed outside the call that made it: what it pays for comes to life.
LISTENERS: list[Callable[[Account, Obj], None]] = []


def make(
    account: Account,
    customer_id: str | None,
    amount: int,
    currency: str,
    description: str | None = None,
    given: Obj | None = None,
) -> Obj:
    """An intent that waits for a payment method; `given` may bring metadata."""
    obj = fresh(
        account, "payment_intent", "pi", amount=amount, currency=currency, customer=customer_id, description=description
    )
    obj["client_secret"] = f"{obj['id']}_secret_{account.new_id('s')}"
    merge_metadata(obj, given or {})
    return create(account, obj, "payment_intent.created")


def attempt(account: Account, intent: Obj, method: Obj, *, is_present: bool = False) -> str:
    """Try to move the money; answers the intent's new status. `is_present`: the person has answered the challenge."""
    going = payment_methods.outcome(method)
    if going == "challenged" and not is_present:
        return _challenge(account, intent, method)
    is_paid = going != "declined"
    charge = _charge(account, intent, method, is_paid=is_paid)
    create(account, charge, "charge.succeeded" if is_paid else "charge.failed")
    with changing(account, intent, "payment_intent.succeeded" if is_paid else "payment_intent.payment_failed"):
        intent.update(latest_charge=charge["id"], next_action=None)
        if is_paid:
            received = intent["amount"]
            intent.update(status="succeeded", amount_received=received, payment_method=method["id"])
            intent["last_payment_error"] = None
        else:
            intent.update(status="requires_payment_method", payment_method=None)
            intent["last_payment_error"] = _error("card_declined", DECLINED, charge["id"], method)
    if going == "disputed":
        open_dispute(account, charge["id"])
    return str(intent["status"])


def confirm(account: Account, intent_id: str, ok: bool) -> Obj:
    """The person answered the 3-D Secure challenge. Raises StripeError when there is none."""
    intent = account.store.get("payment_intent", intent_id)
    if intent["status"] != "requires_action":
        raise StripeError(f"This PaymentIntent's status is {intent['status']}.", code="payment_intent_unexpected_state")
    method = account.store.get("payment_method", intent["payment_method"])
    if ok:
        attempt(account, intent, method, is_present=True)
    else:
        text = "We are unable to authenticate your payment method. Please choose a different one and try again."
        with changing(account, intent, "payment_intent.payment_failed"):
            intent.update(status="requires_payment_method", next_action=None, payment_method=None)
            intent["last_payment_error"] = _error("payment_intent_authentication_failure", text, None, method)
    _tell(account, intent)
    return intent


def cancel(account: Account, intent: Obj, reason: str | None) -> None:
    if intent["status"] in UNFINISHED:
        with changing(account, intent, "payment_intent.canceled"):
            intent.update(status="canceled", canceled_at=account.now(), cancellation_reason=reason, next_action=None)


def declined(intent: Obj) -> StripeError:
    """The 402 that a caller gets who asked for a payment."""
    error = intent["last_payment_error"] or {"code": "card_declined", "message": DECLINED}
    more = {"decline_code": error.get("decline_code"), "payment_intent": intent, "charge": intent["latest_charge"]}
    return StripeError(error["message"], status=402, kind="card_error", code=error["code"], **more)


def _challenge(account: Account, intent: Obj, method: Obj) -> str:
    redirect = {"url": f"{account.address}/3ds/{intent['id']}", "return_url": None}
    with changing(account, intent, "payment_intent.requires_action"):
        intent.update(status="requires_action", payment_method=method["id"], last_payment_error=None)
        intent["next_action"] = {"type": "redirect_to_url", "redirect_to_url": redirect}
    return "requires_action"


def _charge(account: Account, intent: Obj, method: Obj, *, is_paid: bool) -> Obj:
    card = method["card"]
    outcome: Obj = {
        "network_status": "approved_by_network" if is_paid else "declined_by_network",
        "reason": None if is_paid else "generic_decline",
        "risk_level": "normal",
        "risk_score": 20,
        "seller_message": "Payment complete." if is_paid else "The bank did not return any further details.",
        "type": "authorized" if is_paid else "issuer_declined",
        **nulls("advice_code network_advice_code network_decline_code"),
    }
    names = ("brand", "checks", "country", "exp_month", "exp_year", "fingerprint", "funding", "last4")
    shown = {name: card[name] for name in names}
    shown |= {"network": card["brand"], **nulls("installments mandate three_d_secure wallet")}
    charge = fresh(
        account,
        "charge",
        "ch",
        amount=intent["amount"],
        currency=intent["currency"],
        customer=intent["customer"],
        description=intent["description"],
        metadata=dict(intent["metadata"]),
        outcome=outcome,
        payment_intent=intent["id"],
        payment_method=method["id"],
        payment_method_details={"card": shown, "type": "card"},
    )
    if not is_paid:
        return charge | {"status": "failed", "failure_code": "card_declined", "failure_message": DECLINED}
    charge.update(amount_captured=charge["amount"], captured=True, paid=True, status="succeeded")
    receipt = f"{account.address}/receipts/{charge['id']}"
    return charge | {"balance_transaction": account.new_id("txn"), "receipt_url": receipt}


def _error(code: str, message: str, charge_id: str | None, method: Obj) -> Obj:
    error: Obj = {"type": "card_error", "code": code, "message": message, "payment_method": dict(method)}
    if charge_id:
        error |= {"charge": charge_id, "decline_code": "generic_decline"}
    return error | {"doc_url": f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}"}


def add(account: Account, params: Obj) -> Obj:
    required(params, "amount", "currency")
    customer = params.get("customer")
    amount = integer(params, "amount") or 0
    if customer:
        account.store.get("customer", customer, "customer")
    intent = make(account, customer, amount, str(params["currency"]), params.get("description"), params)
    return confirm_by_api(account, params, intent["id"]) if boolean(params, "confirm") else intent


def confirm_by_api(account: Account, params: Obj, object_id: str) -> Obj:
    intent = account.store.get("payment_intent", object_id)
    required(params, "payment_method")
    _refuse_finished(intent, "confirm")
    status = attempt(account, intent, payment_methods.resolve(account, params["payment_method"]))
    if status != "requires_action":
        _tell(account, intent)
    if status == "requires_payment_method":
        raise declined(intent)
    return intent


def cancel_by_api(account: Account, params: Obj, object_id: str) -> Obj:
    intent = account.store.get("payment_intent", object_id)
    _refuse_finished(intent, "cancel")
    cancel(account, intent, params.get("cancellation_reason"))
    return intent


def _refuse_finished(intent: Obj, verb: str) -> None:
    if intent["status"] not in UNFINISHED:
        text = f"You cannot {verb} this PaymentIntent because it has a status of {intent['status']}."
        raise StripeError(text, code="payment_intent_unexpected_state")


def _tell(account: Account, intent: Obj) -> None:
    for listener in LISTENERS:
        listener(account, intent)


OPERATIONS: list[Operation] = [
    ("POST", "/v1/payment_intents", add),
    *collection("payment_intent", "/v1/payment_intents", "customer"),
    ("POST", "/v1/payment_intents/{object_id}/confirm", confirm_by_api),
    ("POST", "/v1/payment_intents/{object_id}/cancel", cancel_by_api),
    *collection("charge", "/v1/charges", "customer payment_intent"),
    updated("charge", "/v1/charges", "charge.updated", fill_metadata),
]
