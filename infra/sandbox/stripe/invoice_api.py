"""What the API offers around invoices, their items and their payments."""

from __future__ import annotations

from infra.sandbox.stripe import invoices, lines, payment_methods
from infra.sandbox.stripe.changes import create
from infra.sandbox.stripe.events import emit
from infra.sandbox.stripe.paging import page_of
from infra.sandbox.stripe.params import boolean, integer, merge_metadata, required, take
from infra.sandbox.stripe.preview import preview
from infra.sandbox.stripe.resources import acted, collection, deleted, updated
from infra.sandbox.stripe.store import Account, Obj, StripeError
from infra.sandbox.stripe.wire import Operation


def add(account: Account, params: Obj) -> Obj:
    """A draft of what waits for the customer's next invoice."""
    required(params, "customer")
    subscription_id = params.get("subscription")
    subscription = account.store.get("subscription", subscription_id, "subscription") if subscription_id else None
    waiting = lines.pending(account, params["customer"], subscription_id)
    if params.get("pending_invoice_items_behavior") == "exclude":
        waiting = []
    invoice = invoices.draft(account, params["customer"], "manual", [], waiting, subscription=subscription)
    invoice["auto_advance"] = False
    _fill(account, invoice, params)
    if invoice["auto_advance"]:
        invoices.schedule_finalizing(account, invoice)
    emit(account, "invoice.created", invoice)
    return invoice


def _refuse_final(account: Account, invoice: Obj) -> None:
    if invoice["status"] != "draft" or invoice["parent"]:
        raise StripeError("You can only delete draft invoices that belong to no subscription.")


def pay(account: Account, params: Obj, object_id: str) -> Obj:
    invoice = account.store.get("invoice", object_id)
    token = params.get("payment_method")
    if token:
        token = payment_methods.attached(account, token, invoice["customer"])["id"]
    return invoices.pay(account, object_id, token)


def list_lines(account: Account, params: Obj, object_id: str) -> Obj:
    invoice = account.store.get("invoice", object_id)
    return page_of(invoice["lines"]["data"], params, f"/v1/invoices/{object_id}/lines")


def add_item(account: Account, params: Obj) -> Obj:
    """Something to charge with the next invoice; a negative amount gives back."""
    required(params, "customer")
    account.store.get("customer", params["customer"], "customer")
    now, currency = account.now(), str(params.get("currency") or "usd")
    amount = integer(params, "amount", 0) or 0
    part = lines.item_of(account, params["customer"], amount, currency, params.get("description"), (now, now))
    merge_metadata(part, params)
    if params.get("subscription"):
        details = {"subscription": params["subscription"], "subscription_item": None}
        part["parent"] = {"type": "subscription_details", "subscription_details": details}
    return create(account, part, "invoiceitem.created")


def _refuse_invoiced(account: Account, part: Obj) -> None:
    if part["invoice"]:
        raise StripeError("This invoice item is on an invoice already.")


def _fill(account: Account, invoice: Obj, params: Obj) -> None:
    invoice["auto_advance"] = boolean(params, "auto_advance", default=invoice["auto_advance"])
    take(invoice, params, "description", "footer", "collection_method")
    merge_metadata(invoice, params)


URL = "/v1/invoices"
OPERATIONS: list[Operation] = [
    ("POST", URL, add),
    ("POST", f"{URL}/create_preview", preview),
    *collection(
        "invoice",
        URL,
        "customer status collection_method",
        {"subscription": lambda invoice, given: invoices.subscription_id(invoice) == given},
    ),
    updated("invoice", URL, "invoice.updated", _fill),
    deleted("invoice", URL, "invoice.deleted", _refuse_final),
    ("POST", f"{URL}/{{object_id}}/pay", pay),
    acted("invoice", URL, "finalize", invoices.finalize),
    acted("invoice", URL, "void", invoices.void),
    acted("invoice", URL, "mark_uncollectible", invoices.mark_uncollectible),
    ("GET", f"{URL}/{{object_id}}/lines", list_lines),
    ("POST", "/v1/invoiceitems", add_item),
    *collection(
        "invoiceitem",
        "/v1/invoiceitems",
        "customer invoice",
        {"pending": lambda part, given: (part["invoice"] is None) == (given == "true")},
    ),
    deleted("invoiceitem", "/v1/invoiceitems", "invoiceitem.deleted", _refuse_invoiced),
    *collection(
        "invoice_payment",
        "/v1/invoice_payments",
        "invoice status",
        {"payment": lambda one, given: one["payment"]["payment_intent"] == given.get("payment_intent")},
    ),
]
