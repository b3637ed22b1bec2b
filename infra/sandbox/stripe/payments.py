"""Payment intents and their charges: money that moves, fails, or waits for the person (3-D Secure)."""

from __future__ import annotations

from collections.abc import Callable

from infra.sandbox.stripe import payment_methods
from infra.sandbox.stripe.changes import changing, create
from infra.sandbox.stripe.disputes import open_dispute
from infra.sandbox.stripe.objects import address, nulls
from infra.sandbox.stripe.params import boolean, integer, merge_metadata, required
from infra.sandbox.stripe.store import Account, Obj, StripeError, page_of
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
    intent_id = account.new_id("pi")
    obj: Obj = {
        "id": intent_id,
        "object": "payment_intent",
        "amount": amount,
        "amount_capturable": 0,
        "amount_received": 0,
        "automatic_payment_methods": None,
        "capture_method": "automatic",
        "client_secret": f"{intent_id}_secret_{account.new_id('s')}",
        "confirmation_method": "automatic",
        "created": account.now(),
        "currency": currency,
        "customer": customer_id,
        "description": description,
        "livemode": False,
        "metadata": {},
        "payment_method_types": ["card"],
        "status": "requires_payment_method",
        **nulls("amount_details application application_fee_amount canceled_at cancellation_reason customer_account"),
        **nulls("last_payment_error latest_charge next_action on_behalf_of payment_method processing receipt_email"),
        **nulls("payment_method_configuration_details payment_method_options review setup_future_usage shipping"),
        **nulls("source statement_descriptor statement_descriptor_suffix transfer_data transfer_group"),
        **nulls("excluded_payment_method_types"),
    }
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
    charge_id = account.new_id("ch")
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
    return {
        "id": charge_id,
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": intent["amount"] if is_paid else 0,
        "amount_refunded": 0,
        "balance_transaction": account.new_id("txn") if is_paid else None,
        "billing_details": {"address": address(), **nulls("email name phone tax_id")},
        "captured": is_paid,
        "created": account.now(),
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": False,
        "failure_code": None if is_paid else "card_declined",
        "failure_message": None if is_paid else DECLINED,
        "fraud_details": {},
        "livemode": False,
        "metadata": dict(intent["metadata"]),
        "outcome": outcome,
        "paid": is_paid,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": {"card": shown, "type": "card"},
        "receipt_url": f"{account.address}/receipts/{charge_id}" if is_paid else None,
        "refunded": False,
        "status": "succeeded" if is_paid else "failed",
        **nulls("application application_fee application_fee_amount calculated_statement_descriptor on_behalf_of"),
        **nulls("failure_balance_transaction receipt_email receipt_number review shipping source source_transfer"),
        **nulls("statement_descriptor statement_descriptor_suffix transfer_data transfer_group"),
    }


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


def update_charge(account: Account, params: Obj, object_id: str) -> Obj:
    charge = account.store.get("charge", object_id)
    with changing(account, charge, "charge.updated"):
        merge_metadata(charge, params)
    return charge


def list_intents(account: Account, params: Obj) -> Obj:
    return page_of(_of(account, "payment_intent", params), params, "/v1/payment_intents")


def list_charges(account: Account, params: Obj) -> Obj:
    return page_of(_of(account, "charge", params), params, "/v1/charges")


def _of(account: Account, kind: str, params: Obj) -> list[Obj]:
    wanted = {name: params[name] for name in ("customer", "payment_intent") if params.get(name)}
    return account.store.of(kind, **wanted)


def retrieve_intent(account: Account, params: Obj, object_id: str) -> Obj:
    return account.store.get("payment_intent", object_id)


def retrieve_charge(account: Account, params: Obj, object_id: str) -> Obj:
    return account.store.get("charge", object_id)


OPERATIONS: list[Operation] = [
    ("POST", "/v1/payment_intents", add),
    ("GET", "/v1/payment_intents", list_intents),
    ("GET", "/v1/payment_intents/{object_id}", retrieve_intent),
    ("POST", "/v1/payment_intents/{object_id}/confirm", confirm_by_api),
    ("POST", "/v1/payment_intents/{object_id}/cancel", cancel_by_api),
    ("GET", "/v1/charges", list_charges),
    ("GET", "/v1/charges/{object_id}", retrieve_charge),
    ("POST", "/v1/charges/{object_id}", update_charge),
]
