"""Customers (docs.stripe.com/api/customers)."""

from __future__ import annotations

from infra.sandbox.stripe import invoices, payment_methods
from infra.sandbox.stripe.billing_cycle import end
from infra.sandbox.stripe.changes import changing, create
from infra.sandbox.stripe.events import emit
from infra.sandbox.stripe.params import merge_metadata, take
from infra.sandbox.stripe.resources import collection
from infra.sandbox.stripe.shapes import fresh
from infra.sandbox.stripe.store import Account, Obj, StripeError
from infra.sandbox.stripe.subscription_shape import ENDED
from infra.sandbox.stripe.wire import Operation

PLAIN = ("name", "email", "phone", "description")


def add(account: Account, params: Obj) -> Obj:
    obj = fresh(account, "customer", "cus", invoice_prefix=f"S{account.store.counter:07d}")
    account.store.add(obj)
    try:
        _fill(account, obj, params)
    except StripeError:
        account.store.remove(obj)
        raise
    return create(account, obj, "customer.created")


def update(account: Account, params: Obj, object_id: str) -> Obj:
    with changing(account, account.store.get("customer", object_id), "customer.updated") as obj:
        _fill(account, obj, params)
    return obj


def retrieve(account: Account, params: Obj, object_id: str) -> Obj:
    """A deleted customer answers with what is left of it."""
    if tombstone := account.store.kinds.get("deleted_customer", {}).get(object_id):
        shown: Obj = tombstone["shown"]
        return shown
    return account.store.get("customer", object_id)


def delete(account: Account, params: Obj, object_id: str) -> Obj:
    """Ends the customer's subscriptions at once, voids what is open, then ends the customer."""
    obj = account.store.get("customer", object_id)
    for one in account.store.of("subscription", customer=object_id):
        if one["status"] not in ENDED:
            end(account, one)
    for invoice in account.store.of("invoice", customer=object_id, status="open"):
        # Nobody is left to pay; a retry that falls due later must not look for the customer.
        invoices.void(account, invoice)
    account.store.remove(obj)
    shown = {"id": object_id, "object": "customer", "deleted": True}
    account.store.add({"id": object_id, "object": "deleted_customer", "shown": shown})
    emit(account, "customer.deleted", obj)
    return shown


def search(account: Account, params: Obj) -> Obj:
    """Understands one condition, `email:'x'` or `metadata['key']:'x'`; real search lags behind, so code must not."""
    field, _, wanted = str(params.get("query", "")).replace('"', "'").partition(":")
    wanted, key = wanted.strip("'"), field.partition("['")[2].rstrip("]").strip("'")
    data = [
        one
        for one in account.store.of("customer")
        if (one["metadata"].get(key) if key else one.get(field.strip())) == wanted
    ]
    return {
        "object": "search_result",
        "url": "/v1/customers/search",
        "has_more": False,
        "next_page": None,
        "data": data,
    }


def _fill(account: Account, obj: Obj, params: Obj) -> None:
    take(obj, params, *PLAIN)
    merge_metadata(obj, params)
    settings = params.get("invoice_settings") or {}
    if params.get("payment_method"):
        payment_methods.attach(account, {"customer": obj["id"]}, params["payment_method"])
    name = "invoice_settings[default_payment_method]"
    if token := settings.get("default_payment_method"):
        method = payment_methods.attached(account, token, obj["id"], name)
        obj["invoice_settings"]["default_payment_method"] = method["id"]
    elif "default_payment_method" in settings:
        obj["invoice_settings"]["default_payment_method"] = None


OPERATIONS: list[Operation] = [
    ("POST", "/v1/customers", add),
    ("GET", "/v1/customers/search", search),
    *collection("customer", "/v1/customers", "email"),
    ("GET", "/v1/customers/{object_id}", retrieve),
    ("POST", "/v1/customers/{object_id}", update),
    ("DELETE", "/v1/customers/{object_id}", delete),
]
