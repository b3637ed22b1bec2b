"""What the API offers around invoices, their items and their payments."""

from __future__ import annotations

from infra.sandbox.stripe import invoices, lines, payment_methods
from infra.sandbox.stripe.changes import changing, create
from infra.sandbox.stripe.events import emit
from infra.sandbox.stripe.params import boolean, integer, merge_metadata, required, take
from infra.sandbox.stripe.preview import preview
from infra.sandbox.stripe.store import Account, Obj, StripeError, page_of
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
    invoice["auto_advance"] = boolean(params, "auto_advance")
    _fill(invoice, params)
    if invoice["auto_advance"]:
        invoices.schedule_finalizing(account, invoice)
    emit(account, "invoice.created", invoice)
    return invoice


def update(account: Account, params: Obj, object_id: str) -> Obj:
    invoice = account.store.get("invoice", object_id)
    with changing(account, invoice, "invoice.updated"):
        invoice["auto_advance"] = boolean(params, "auto_advance", default=invoice["auto_advance"])
        _fill(invoice, params)
    return invoice


def delete(account: Account, params: Obj, object_id: str) -> Obj:
    invoice = account.store.get("invoice", object_id)
    if invoice["status"] != "draft" or invoice["parent"]:
        raise StripeError("You can only delete draft invoices that belong to no subscription.")
    account.store.remove(invoice)
    emit(account, "invoice.deleted", invoice)
    return {"id": object_id, "object": "invoice", "deleted": True}


def list_(account: Account, params: Obj) -> Obj:
    wanted = {name: params[name] for name in ("customer", "status", "collection_method") if params.get(name)}
    every = account.store.of("invoice", **wanted)
    if params.get("subscription"):
        every = [one for one in every if invoices.subscription_id(one) == params["subscription"]]
    return page_of(every, params, "/v1/invoices")


def retrieve(account: Account, params: Obj, object_id: str) -> Obj:
    return account.store.get("invoice", object_id)


def finalize(account: Account, params: Obj, object_id: str) -> Obj:
    return invoices.finalize(account, account.store.get("invoice", object_id))


def pay(account: Account, params: Obj, object_id: str) -> Obj:
    invoice = account.store.get("invoice", object_id)
    token = params.get("payment_method")
    if token:
        token = payment_methods.attached(account, token, invoice["customer"])["id"]
    return invoices.pay(account, object_id, token)


def void(account: Account, params: Obj, object_id: str) -> Obj:
    invoice = account.store.get("invoice", object_id)
    invoices.void(account, invoice)
    return invoice


def mark_uncollectible(account: Account, params: Obj, object_id: str) -> Obj:
    invoice = account.store.get("invoice", object_id)
    invoices.mark_uncollectible(account, invoice)
    return invoice


def send(account: Account, params: Obj, object_id: str) -> Obj:
    invoice = account.store.get("invoice", object_id)
    if invoice["status"] == "draft":
        invoices.finalize(account, invoice)
    emit(account, "invoice.sent", invoice)
    return invoice


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


def list_items(account: Account, params: Obj) -> Obj:
    every = account.store.of("invoiceitem", **{n: params[n] for n in ("customer", "invoice") if params.get(n)})
    if "pending" in params:
        every = [one for one in every if (one["invoice"] is None) == boolean(params, "pending")]
    return page_of(every, params, "/v1/invoiceitems")


def retrieve_item(account: Account, params: Obj, object_id: str) -> Obj:
    return account.store.get("invoiceitem", object_id)


def delete_item(account: Account, params: Obj, object_id: str) -> Obj:
    part = account.store.get("invoiceitem", object_id)
    if part["invoice"]:
        raise StripeError("This invoice item is on an invoice already.")
    account.store.remove(part)
    emit(account, "invoiceitem.deleted", part)
    return {"id": object_id, "object": "invoiceitem", "deleted": True}


def list_payments(account: Account, params: Obj) -> Obj:
    wanted = {name: params[name] for name in ("invoice", "status") if params.get(name)}
    every = account.store.of("invoice_payment", **wanted)
    if payment := params.get("payment"):
        every = [one for one in every if one["payment"]["payment_intent"] == payment.get("payment_intent")]
    return page_of(every, params, "/v1/invoice_payments")


def retrieve_payment(account: Account, params: Obj, object_id: str) -> Obj:
    return account.store.get("invoice_payment", object_id)


def _fill(invoice: Obj, params: Obj) -> None:
    take(invoice, params, "description", "footer", "collection_method")
    merge_metadata(invoice, params)


OPERATIONS: list[Operation] = [
    ("POST", "/v1/invoices", add),
    ("GET", "/v1/invoices", list_),
    ("POST", "/v1/invoices/create_preview", preview),
    ("GET", "/v1/invoices/{object_id}", retrieve),
    ("POST", "/v1/invoices/{object_id}", update),
    ("DELETE", "/v1/invoices/{object_id}", delete),
    ("POST", "/v1/invoices/{object_id}/finalize", finalize),
    ("POST", "/v1/invoices/{object_id}/pay", pay),
    ("POST", "/v1/invoices/{object_id}/void", void),
    ("POST", "/v1/invoices/{object_id}/mark_uncollectible", mark_uncollectible),
    ("POST", "/v1/invoices/{object_id}/send", send),
    ("GET", "/v1/invoices/{object_id}/lines", list_lines),
    ("POST", "/v1/invoiceitems", add_item),
    ("GET", "/v1/invoiceitems", list_items),
    ("GET", "/v1/invoiceitems/{object_id}", retrieve_item),
    ("DELETE", "/v1/invoiceitems/{object_id}", delete_item),
    ("GET", "/v1/invoice_payments", list_payments),
    ("GET", "/v1/invoice_payments/{object_id}", retrieve_payment),
]
