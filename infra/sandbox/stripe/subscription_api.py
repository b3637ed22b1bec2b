"""What the API offers around subscriptions and their items."""

from __future__ import annotations

from infra.sandbox.stripe import billing_cycle, invoices, subscriptions
from infra.sandbox.stripe.changes import changing
from infra.sandbox.stripe.expanding import HIDDEN
from infra.sandbox.stripe.objects import listing
from infra.sandbox.stripe.paging import page_of
from infra.sandbox.stripe.params import required
from infra.sandbox.stripe.resources import acted, collection
from infra.sandbox.stripe.store import Account, Obj, StripeError
from infra.sandbox.stripe.subscription_shape import ENDED
from infra.sandbox.stripe.wire import Operation

URL = "/v1/subscriptions"


def _update(account: Account, params: Obj, object_id: str) -> Obj:
    return subscriptions.update(account, object_id, params)


def _cancel(account: Account, params: Obj, object_id: str) -> Obj:
    return subscriptions.cancel(account, object_id, params)


def resume(account: Account, subscription: Obj) -> None:
    """Wake a subscription that paused because its trial ended without a card: its cycle starts today, and is paid."""
    if subscription["status"] != "paused":
        raise StripeError("Only a paused subscription can be resumed.")
    now = account.now()
    with changing(account, subscription, "customer.subscription.updated", "customer.subscription.resumed"):
        subscription.update(status="active", billing_cycle_anchor=now)
        for item in subscription["items"]["data"]:
            item["current_period_end"] = now
    invoices.settle(account, billing_cycle.renew(account, subscription))


def list_items(account: Account, params: Obj) -> Obj:
    required(params, "subscription")
    subscription = account.store.get("subscription", params["subscription"], "subscription")
    return page_of(subscription["items"]["data"], params, "/v1/subscription_items")


def _has_price(subscription: Obj, price: str) -> bool:
    return any(item["price"]["id"] == price for item in subscription["items"]["data"])


def _has_status(subscription: Obj, status: str) -> bool:
    """Without a status everything but what is over; `all` and `ended` as Stripe has them."""
    if status == "running":
        return bool(subscription["status"] != "canceled")
    if status == "ended":
        return subscription["status"] in ENDED
    return status in ("all", subscription["status"])


def _running_of(account: Account, customer: Obj) -> Obj:
    running = [one for one in account.store.of("subscription", customer=customer["id"]) if _has_status(one, "running")]
    return listing(running, f"/v1/customers/{customer['id']}/subscriptions")


HIDDEN["customer", "subscriptions"] = _running_of
OPERATIONS: list[Operation] = [
    ("POST", URL, subscriptions.create),
    *collection(
        "subscription",
        URL,
        "customer collection_method",
        {"status": _has_status, "price": _has_price},
        status="running",
    ),
    ("POST", f"{URL}/{{object_id}}", _update),
    ("DELETE", f"{URL}/{{object_id}}", _cancel),
    acted("subscription", URL, "resume", resume),
    ("GET", "/v1/subscription_items", list_items),
]
