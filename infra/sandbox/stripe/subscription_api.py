"""What the API offers around subscriptions and their items."""

from __future__ import annotations

from infra.sandbox.stripe import billing_cycle, invoices, subscriptions
from infra.sandbox.stripe.changes import changing
from infra.sandbox.stripe.expanding import HIDDEN
from infra.sandbox.stripe.objects import listing
from infra.sandbox.stripe.params import required
from infra.sandbox.stripe.store import Account, Obj, StripeError, page_of
from infra.sandbox.stripe.wire import Operation


def list_(account: Account, params: Obj) -> Obj:
    """Without a status everything but what is over; `all` and `ended` as Stripe has them."""
    status = params.get("status") or "running"
    wanted = {name: params[name] for name in ("customer", "collection_method") if params.get(name)}
    every = [one for one in account.store.of("subscription", **wanted) if _has_status(one, status)]
    if price := params.get("price"):
        every = [one for one in every if any(item["price"]["id"] == price for item in one["items"]["data"])]
    return page_of(every, params, "/v1/subscriptions")


def search(account: Account, params: Obj) -> Obj:
    """Understands `status:'x'` and `metadata['key']:'x'`; real search lags behind, so code must not rely on it."""
    field, _, wanted = str(params.get("query", "")).replace('"', "'").partition(":")
    wanted, key = wanted.strip("'"), field.partition("['")[2].rstrip("]").strip("'")
    every = account.store.of("subscription")
    data = [one for one in every if (one["metadata"].get(key) if key else one.get(field.strip())) == wanted]
    url = "/v1/subscriptions/search"
    return {"object": "search_result", "url": url, "has_more": False, "next_page": None, "data": data}


def retrieve(account: Account, params: Obj, object_id: str) -> Obj:
    return account.store.get("subscription", object_id)


def update(account: Account, params: Obj, object_id: str) -> Obj:
    return subscriptions.update(account, object_id, params)


def cancel(account: Account, params: Obj, object_id: str) -> Obj:
    return subscriptions.cancel(account, object_id, params)


def resume(account: Account, params: Obj, object_id: str) -> Obj:
    """Wake a subscription that paused because its trial ended without a card: its cycle starts today, and is paid."""
    subscription = account.store.get("subscription", object_id)
    if subscription["status"] != "paused":
        raise StripeError("Only a paused subscription can be resumed.")
    now = account.now()
    with changing(account, subscription, "customer.subscription.updated", "customer.subscription.resumed"):
        subscription.update(status="active", billing_cycle_anchor=now)
        for item in subscription["items"]["data"]:
            item["current_period_end"] = now
    invoices.settle(account, billing_cycle.renew(account, subscription))
    return subscription


def list_items(account: Account, params: Obj) -> Obj:
    required(params, "subscription")
    subscription = account.store.get("subscription", params["subscription"], "subscription")
    return page_of(subscription["items"]["data"], params, "/v1/subscription_items")


def retrieve_item(account: Account, params: Obj, object_id: str) -> Obj:
    return _item(account, object_id)


def add_item(account: Account, params: Obj) -> Obj:
    required(params, "subscription")
    before = {item["id"] for item in account.store.get("subscription", params["subscription"])["items"]["data"]}
    updated = subscriptions.update(account, params["subscription"], _split(params))
    items: list[Obj] = updated["items"]["data"]
    return next((item for item in items if item["id"] not in before), items[-1])


def update_item(account: Account, params: Obj, object_id: str) -> Obj:
    item = _item(account, object_id)
    subscriptions.update(account, item["subscription"], _split(params | {"id": object_id}))
    return _item(account, object_id)


def delete_item(account: Account, params: Obj, object_id: str) -> Obj:
    item = _item(account, object_id)
    subscriptions.update(account, item["subscription"], _split(params | {"id": object_id, "deleted": "true"}))
    return {"id": object_id, "object": "subscription_item", "deleted": True}


def _split(params: Obj) -> Obj:
    """An item's parameters as those of its subscription."""
    of_item = {name: params[name] for name in ("id", "price", "quantity", "metadata", "deleted") if name in params}
    rest = ("proration_behavior", "proration_date", "payment_behavior")
    return {"items": [of_item]} | {name: params[name] for name in rest if name in params}


def _item(account: Account, object_id: str) -> Obj:
    for subscription in account.store.of("subscription"):
        found: list[Obj] = [item for item in subscription["items"]["data"] if item["id"] == object_id]
        if found:
            return found[0]
    text = f"No such subscription_item: '{object_id}'"
    raise StripeError(text, status=404, code="resource_missing", param="id")


def _has_status(subscription: Obj, status: str) -> bool:
    if status == "running":
        return bool(subscription["status"] != "canceled")
    if status == "ended":
        return subscription["status"] in subscriptions.ENDED
    return status in ("all", subscription["status"])


def _create(account: Account, params: Obj) -> Obj:
    return subscriptions.create(account, params)


def _running_of(account: Account, customer: Obj) -> Obj:
    running = [one for one in account.store.of("subscription", customer=customer["id"]) if _has_status(one, "running")]
    return listing(running, f"/v1/customers/{customer['id']}/subscriptions")


HIDDEN["customer", "subscriptions"] = _running_of
OPERATIONS: list[Operation] = [
    ("POST", "/v1/subscriptions", _create),
    ("GET", "/v1/subscriptions", list_),
    ("GET", "/v1/subscriptions/search", search),
    ("GET", "/v1/subscriptions/{object_id}", retrieve),
    ("POST", "/v1/subscriptions/{object_id}", update),
    ("DELETE", "/v1/subscriptions/{object_id}", cancel),
    ("POST", "/v1/subscriptions/{object_id}/resume", resume),
    ("POST", "/v1/subscription_items", add_item),
    ("GET", "/v1/subscription_items", list_items),
    ("GET", "/v1/subscription_items/{object_id}", retrieve_item),
    ("POST", "/v1/subscription_items/{object_id}", update_item),
    ("DELETE", "/v1/subscription_items/{object_id}", delete_item),
]
