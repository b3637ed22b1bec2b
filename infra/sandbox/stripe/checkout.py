"""Checkout sessions: made by the API, completed or left by a person on the page (docs.stripe.com/payments/checkout)."""

from __future__ import annotations

from infra.sandbox.stripe import customers, invoices, payment_methods, payments, setup_intents, subscriptions
from infra.sandbox.stripe.changes import changing
from infra.sandbox.stripe.checkout_shape import line_items, shape
from infra.sandbox.stripe.clock import DAY, when_due
from infra.sandbox.stripe.events import emit
from infra.sandbox.stripe.expanding import HIDDEN
from infra.sandbox.stripe.objects import listing
from infra.sandbox.stripe.params import integer, required
from infra.sandbox.stripe.resources import acted, collection
from infra.sandbox.stripe.store import Account, Obj, StripeError
from infra.sandbox.stripe.wire import Operation

SHORTEST_SECONDS, LONGEST_SECONDS = 1800, DAY
OF_SUBSCRIPTION = ("trial_period_days", "trial_end", "billing_mode", "metadata", "trial_settings", "description")


def create(account: Account, params: Obj) -> Obj:
    required(params, "mode", "success_url")
    if params["mode"] != "setup":
        required(params, "line_items")
    if params.get("customer"):
        account.store.get("customer", params["customer"], "customer")
    now = account.now()
    expires_at = integer(params, "expires_at", now + LONGEST_SECONDS) or 0
    if not now + SHORTEST_SECONDS <= expires_at <= now + LONGEST_SECONDS:
        text = "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation."
        raise StripeError(text, param="expires_at")
    session = account.store.add(shape(account, params, expires_at))
    account.checkouts[session["id"]] = {"params": params}
    account.clock.at(expires_at, "checkout_over", session["id"])
    return session


def complete(account: Account, session_id: str, card: str) -> Obj:
    """The person pays with a card, by its test name. Answers the session.

    It is still open when the card wants a challenge: `challenge` names the intent that waits, and answering that
    completes the session. Raises the 402 of a declined card, after which another may be tried, and StripeError when
    the session is over.
    """
    session = _open(account, session_id)
    customer = _customer(account, session)
    if session["mode"] == "setup":
        method = payment_methods.attached(account, card, customer["id"])
        with changing(account, session):
            session["setup_intent"] = setup_intents.succeed(account, customer["id"], method)["id"]
        return _finish(account, session, customer)
    return _subscribe(account, session, customer, card)


def complete_by_debit(account: Account, session_id: str) -> Obj:
    """The person pays by bank debit: the session is complete and unpaid; `debit_is_over` tells days later how it went.

    Until then the subscription is incomplete (docs.stripe.com/payments/checkout/fulfill-orders).
    """
    session = _open(account, session_id)
    customer = _customer(account, session)
    given = _wanted(account, session, customer) | {"payment_behavior": "default_incomplete"}
    subscription = subscriptions.create(account, given)
    account.checkouts[session_id]["subscription"] = subscription["id"]
    intent = invoices.intent_of(account, account.store.get("invoice", subscription["latest_invoice"]))
    with changing(account, intent, "payment_intent.processing"):
        intent["status"] = "processing"
    return _finish(account, session, customer, payment_status="unpaid")


def debit_is_over(account: Account, session_id: str, *, ok: bool) -> None:
    """The bank has the money, or says that there is none."""
    session = account.store.get("checkout.session", session_id)
    card = "pm_card_visa" if ok else "pm_card_chargeCustomerFail"
    invoices.collect(account, account.store.get("invoice", session["invoice"]), card, is_retry=False)
    session["payment_status"] = "paid" if ok else "unpaid"
    emit(account, f"checkout.session.async_payment_{'succeeded' if ok else 'failed'}", session)


def challenge(account: Account, session_id: str) -> str | None:
    """The id of the payment intent whose challenge this session waits for."""
    intent = _intent(account, session_id)
    return str(intent["id"]) if intent and intent["status"] == "requires_action" else None


def expire(account: Account, session: Obj) -> None:
    if session["status"] != "open":
        text = f"Only Checkout Sessions with a status in ['open'] can be expired. This one is {session['status']}."
        raise StripeError(text)
    with changing(account, session, "checkout.session.expired"):
        session.update(status="expired", url=None)


def _subscribe(account: Account, session: Obj, customer: Obj, card: str) -> Obj:
    kept = account.checkouts[session["id"]]
    if not kept.get("subscription"):
        _refuse_declined(account, session, customer, card)
        method = payment_methods.attached(account, card, customer["id"])
        given = _wanted(account, session, customer) | {"default_payment_method": method["id"]}
        kept["subscription"] = subscriptions.create(account, given)["id"]
    subscription = account.store.get("subscription", kept["subscription"])
    if subscription["status"] == "incomplete" and not challenge(account, session["id"]):
        method = payment_methods.attached(account, card, customer["id"])
        subscriptions.update(account, subscription["id"], {"default_payment_method": method["id"]})
        invoice = account.store.get("invoice", subscription["latest_invoice"])
        if invoices.collect(account, invoice, method["id"], is_retry=False) == "requires_payment_method":
            raise payments.declined(invoices.intent_of(account, invoice))
    return _finish(account, session, customer) if subscription["status"] != "incomplete" else session


def _wanted(account: Account, session: Obj, customer: Obj) -> Obj:
    """The subscription that the session asks for."""
    params = account.checkouts[session["id"]]["params"]
    of_subscription = params.get("subscription_data") or {}
    given = {name: of_subscription[name] for name in OF_SUBSCRIPTION if name in of_subscription}
    return given | {"customer": customer["id"], "items": params["line_items"]}


def _refuse_declined(account: Account, session: Obj, customer: Obj, card: str) -> None:
    """A card that is declined leaves traces of an attempt, and no subscription."""
    if session["amount_total"] and card in payment_methods.CARDS and payment_methods.CARDS[card].outcome == "declined":
        intent = payments.make(account, customer["id"], session["amount_total"], session["currency"])
        payments.attempt(account, intent, payment_methods.resolve(account, card))
        raise payments.declined(intent)


def _finish(account: Account, session: Obj, customer: Obj, *, payment_status: str = "paid") -> Obj:
    kept = account.checkouts[session["id"]]
    subscription = account.store.find(kept.get("subscription"))
    with changing(account, session, "checkout.session.completed"):
        session.update(status="complete", url=None, customer=customer["id"])
        session["payment_status"] = payment_status if session["amount_total"] else "no_payment_required"
        details = {name: customer[name] for name in ("address", "email", "name", "phone")}
        session["customer_details"] = details | {"tax_exempt": "none", "tax_ids": []}
        if subscription:
            session.update(subscription=subscription["id"], invoice=subscription["latest_invoice"])
    return session


def _open(account: Account, session_id: str) -> Obj:
    session = account.store.get("checkout.session", session_id)
    if session["status"] != "open":
        raise StripeError(f"This Checkout Session is {session['status']}.", code="checkout_session_not_open")
    return session


def _customer(account: Account, session: Obj) -> Obj:
    """The session's own, or a new one made when somebody first pays."""
    kept = account.checkouts[session["id"]]
    if known := session["customer"] or kept.get("customer"):
        return account.store.get("customer", known)
    customer = customers.add(account, {"email": session["customer_email"] or "customer@example.com"})
    kept["customer"] = customer["id"]
    return customer


def _intent(account: Account, session_id: str) -> Obj | None:
    subscription = account.store.find(account.checkouts[session_id].get("subscription"))
    invoice = account.store.get("invoice", subscription["latest_invoice"]) if subscription else None
    return invoices.intent_of(account, invoice) if invoice and invoice["amount_due"] else None


@when_due("checkout_over")
def _over(account: Account, session_id: str) -> None:
    session = account.store.find(session_id)
    if session and session["status"] == "open":
        expire(account, session)


def _confirmed(account: Account, intent: Obj) -> None:
    """A challenge was answered: the session that waited for it is done."""
    if intent["status"] != "succeeded":
        return
    for session in account.store.of("checkout.session", status="open"):
        waiting = _intent(account, session["id"])
        if waiting and waiting["id"] == intent["id"]:
            _finish(account, session, _customer(account, session))


def _line_items(account: Account, session: Obj) -> Obj:
    params = account.checkouts[session["id"]]["params"]
    url = f"/v1/checkout/sessions/{session['id']}/line_items"
    return listing(line_items(account, params.get("line_items") or []), url)


def _list_line_items(account: Account, params: Obj, object_id: str) -> Obj:
    return _line_items(account, account.store.get("checkout.session", object_id))


payments.LISTENERS.append(_confirmed)
HIDDEN["checkout.session", "line_items"] = _line_items
OPERATIONS: list[Operation] = [
    ("POST", "/v1/checkout/sessions", create),
    *collection("checkout.session", "/v1/checkout/sessions", "customer subscription payment_intent status"),
    acted("checkout.session", "/v1/checkout/sessions", "expire", expire),
    ("GET", "/v1/checkout/sessions/{object_id}/line_items", _list_line_items),
]
