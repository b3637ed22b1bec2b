"""The life of an invoice: draft, open, then paid, void or uncollectible (docs.stripe.com/invoicing/overview).

What it means for a subscription is told to the listeners, because a subscription is more than its invoices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from infra.sandbox.stripe import payment_methods, payments
from infra.sandbox.stripe.changes import changing
from infra.sandbox.stripe.clock import DAY, HOUR, when_due
from infra.sandbox.stripe.events import emit
from infra.sandbox.stripe.expanding import HIDDEN
from infra.sandbox.stripe.invoice_shape import shape
from infra.sandbox.stripe.lines import line_of
from infra.sandbox.stripe.objects import listing
from infra.sandbox.stripe.shapes import fresh
from infra.sandbox.stripe.store import Account, Obj, StripeError

DRAFT_SECONDS = HOUR
RETRY_DAYS = (3, 5, 7)
# Only these are tried again by themselves; a first invoice that fails waits for the customer.
RETRIED = ("subscription_cycle", "subscription_update")
Outcome = Literal["paid", "failed", "exhausted", "voided"]
LISTENERS: list[Callable[[Account, Obj, Outcome], None]] = []


def draft(
    account: Account,
    customer_id: str,
    reason: str,
    lines: list[Obj],
    parts: list[Obj],
    *,
    subscription: Obj | None = None,
    period: tuple[int, int] | None = None,
) -> Obj:
    """A new draft of these lines and of these pending invoice items. It is kept; its event is left to the caller."""
    customer = account.store.get("customer", customer_id, "customer")
    invoice = shape(account, customer, reason, [*(line_of(account, part) for part in parts), *lines], subscription)
    invoice["period_start"], invoice["period_end"] = period or (account.now(), account.now())
    for part in parts:
        part["invoice"] = invoice["id"]
    return account.store.add(invoice)


def finalize(account: Account, invoice: Obj) -> Obj:
    """Number it, settle the customer's balance and open it; without anything to pay it is paid at once."""
    if invoice["status"] != "draft":
        raise StripeError("This invoice is already finalized, you can't re-finalize it.", code="invoice_not_editable")
    customer = account.store.get("customer", invoice["customer"])
    number = f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04d}"
    customer["next_invoice_sequence"] += 1
    left = min(0, invoice["total"] + customer["balance"])
    due = max(0, invoice["total"] + customer["balance"])
    with changing(account, invoice, "invoice.finalized"):
        invoice.update(status="open", number=number, effective_at=account.now(), automatically_finalizes_at=None)
        invoice.update(starting_balance=customer["balance"], ending_balance=left, amount_due=due, amount_remaining=due)
        invoice["status_transitions"]["finalized_at"] = account.now()
        invoice["hosted_invoice_url"] = f"{account.address}/invoices/{invoice['id']}"
        invoice["invoice_pdf"] = f"{account.address}/invoices/{invoice['id']}/pdf"
    if customer["balance"] != left:
        with changing(account, customer, "customer.updated"):
            customer["balance"] = left
    if due:
        _ask_for_payment(account, invoice)
    else:
        _paid(account, invoice)
    return invoice


def settle(account: Account, invoice: Obj) -> None:
    """Open a draft and try to have it paid, without its hour."""
    finalize(account, invoice)
    collect(account, invoice)


def collect(account: Account, invoice: Obj, token: str | None = None, *, is_retry: bool = True) -> str:
    """Try to have an open invoice paid; answers succeeded, requires_action or requires_payment_method.

    `is_retry` is false for a person's attempt: after the first, those do not advance the ladder of retries.
    """
    if invoice["status"] == "paid":
        return "succeeded"
    method = _method(account, invoice, token)
    intent = intent_of(account, invoice)
    status = payments.attempt(account, intent, method) if method else "requires_payment_method"
    if status == "succeeded":
        return _paid(account, invoice, is_attempt=True)
    name = "invoice.payment_action_required" if status == "requires_action" else "invoice.payment_failed"
    with changing(account, invoice, name):
        counts = is_retry or not invoice["attempt_count"]
        invoice.update(attempted=True, attempt_count=invoice["attempt_count"] + counts)
        if counts and invoice["auto_advance"]:
            invoice["next_payment_attempt"] = _next_attempt(account, invoice)
    is_over = invoice["auto_advance"] and invoice["billing_reason"] in RETRIED and not invoice["next_payment_attempt"]
    _tell(account, invoice, "exhausted" if is_over else "failed")
    return status


def pay(account: Account, invoice_id: str, card: str | None = None) -> Obj:
    """A person pays. Raises the 402 of a declined card, or of one whose challenge waits to be answered.

    A test card by its name is also kept as the customer's default, as the hosted page does.
    """
    invoice = account.store.get("invoice", invoice_id)
    if invoice["status"] == "draft":
        finalize(account, invoice)
    elif invoice["status"] == "paid":
        raise StripeError("Invoice is already paid", code="invoice_already_paid")
    elif invoice["status"] == "void":
        raise StripeError("You can't pay a voided invoice.", code="invoice_not_editable")
    if card in payment_methods.CARDS:
        customer = account.store.get("customer", invoice["customer"])
        card = payment_methods.set_default(account, customer, str(card))["id"]
    status = collect(account, invoice, card, is_retry=False)
    if status == "requires_action":
        intent = intent_of(account, invoice)
        text = "Payment for this invoice requires additional user action before it can be completed successfully."
        code = "invoice_payment_intent_requires_action"
        raise StripeError(text, status=402, kind="card_error", code=code, payment_intent=intent)
    if status != "succeeded":
        raise payments.declined(intent_of(account, invoice))
    return invoice


def void(account: Account, invoice: Obj) -> None:
    """Nobody pays it any more."""
    _close(account, invoice, "void", "voided")
    if invoice["amount_due"]:
        payments.cancel(account, intent_of(account, invoice), "void_invoice")
    _tell(account, invoice, "voided")


def mark_uncollectible(account: Account, invoice: Obj) -> None:
    """Given up on, though it may still be paid."""
    _close(account, invoice, "uncollectible", "marked_uncollectible")


def write_off(account: Account, invoice: Obj) -> None:
    """Credited in full: nothing is left to pay, so it is paid."""
    payments.cancel(account, intent_of(account, invoice), None)
    _paid(account, invoice)


def payments_of(account: Account, invoice: Obj) -> list[Obj]:
    return account.store.of("invoice_payment", invoice=invoice["id"])


def intent_of(account: Account, invoice: Obj) -> Obj:
    """The payment intent of a finalized invoice; one that was opened before a first payment has it too."""
    found = payments_of(account, invoice)
    return account.store.get("payment_intent", found[0]["payment"]["payment_intent"] if found else None)


def subscription_id(invoice: Obj) -> str | None:
    return invoice["parent"]["subscription_details"]["subscription"] if invoice["parent"] else None


def schedule_finalizing(account: Account, invoice: Obj) -> None:
    """Leave it a draft for an hour, in which it can still be changed."""
    invoice["automatically_finalizes_at"] = account.now() + DRAFT_SECONDS
    invoice["next_payment_attempt"] = account.now() + DRAFT_SECONDS
    account.clock.at(account.now() + DRAFT_SECONDS, "invoice_draft_over", invoice["id"])


@when_due("invoice_retry")
def _retry(account: Account, invoice_id: str) -> None:
    invoice = account.store.find(invoice_id)
    if invoice and invoice["status"] == "open" and (invoice["next_payment_attempt"] or 0) == account.now():
        collect(account, invoice)


def _next_attempt(account: Account, invoice: Obj) -> int | None:
    if invoice["billing_reason"] not in RETRIED or invoice["attempt_count"] > len(RETRY_DAYS):
        return None
    moment = account.now() + RETRY_DAYS[invoice["attempt_count"] - 1] * DAY
    account.clock.at(moment, "invoice_retry", invoice["id"])
    return moment


def _ask_for_payment(account: Account, invoice: Obj) -> None:
    intent = payments.make(account, invoice["customer"], invoice["amount_due"], invoice["currency"], invoice["number"])
    payment = {"type": "payment_intent", "payment_intent": intent["id"]}
    obj = fresh(account, "invoice_payment", "inpay", amount_requested=invoice["amount_due"], invoice=invoice["id"])
    obj |= {"currency": invoice["currency"], "payment": payment}
    account.store.add(obj)


def _paid(account: Account, invoice: Obj, *, is_attempt: bool = False) -> str:
    with changing(account, invoice, "invoice.paid", "invoice.payment_succeeded"):
        invoice.update(status="paid", amount_paid=invoice["amount_due"], amount_remaining=0, attempted=True)
        invoice.update(next_payment_attempt=None, attempt_count=invoice["attempt_count"] + is_attempt)
        invoice["status_transitions"]["paid_at"] = account.now()
    for payment in payments_of(account, invoice):
        with changing(account, payment, "invoice_payment.paid"):
            payment.update(status="paid", amount_paid=invoice["amount_paid"])
            payment["status_transitions"]["paid_at"] = account.now()
    _tell(account, invoice, "paid")
    return "succeeded"


def _method(account: Account, invoice: Obj, token: str | None) -> Obj | None:
    subscription = account.store.find(subscription_id(invoice))
    token = token or payment_methods.usual(account, invoice["customer"], subscription)
    return payment_methods.attached(account, token, invoice["customer"]) if token else None


def _close(account: Account, invoice: Obj, status: str, moment: str) -> None:
    if invoice["status"] not in ("open", "uncollectible"):
        text = f"You can only pass in open invoices. This invoice isn't open (it is {invoice['status']})."
        raise StripeError(text, code="invoice_not_editable")
    with changing(account, invoice, f"invoice.{moment}"):
        invoice.update(status=status, next_payment_attempt=None, auto_advance=False)
        invoice["status_transitions"][f"{moment}_at"] = account.now()


def _tell(account: Account, invoice: Obj, outcome: Outcome) -> None:
    for listener in LISTENERS:
        listener(account, invoice, outcome)


def _confirmed(account: Account, intent: Obj) -> None:
    """A challenge was answered: the invoice that asked for the money hears of it."""
    for payment in account.store.of("invoice_payment"):
        if payment["payment"]["payment_intent"] != intent["id"]:
            continue
        invoice = account.store.get("invoice", payment["invoice"])
        if intent["status"] == "succeeded" and invoice["status"] in ("open", "uncollectible"):
            _paid(account, invoice)
        elif invoice["status"] == "open":
            emit(account, "invoice.payment_failed", invoice)
            _tell(account, invoice, "failed")


payments.LISTENERS.append(_confirmed)
HIDDEN["invoice", "payments"] = lambda account, invoice: listing(payments_of(account, invoice), "/v1/invoice_payments")


def _secret(account: Account, invoice: Obj) -> Obj | None:
    found = payments_of(account, invoice)
    return {"client_secret": intent_of(account, invoice)["client_secret"], "type": "payment_intent"} if found else None


HIDDEN["invoice", "confirmation_secret"] = _secret
