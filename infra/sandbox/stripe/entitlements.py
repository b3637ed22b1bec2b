"""Features of products, and who has them now (docs.stripe.com/billing/entitlements)."""

from __future__ import annotations

from infra.sandbox.stripe.changes import FOLLOWS, create
from infra.sandbox.stripe.events import emit
from infra.sandbox.stripe.paging import page_of
from infra.sandbox.stripe.params import merge_metadata, required
from infra.sandbox.stripe.shapes import fresh
from infra.sandbox.stripe.store import Account, Obj, StripeError
from infra.sandbox.stripe.wire import Operation

GIVING = ("active", "trialing", "past_due")
SHOWN_IN_EVENT = 10


def refresh(account: Account, customer_id: str) -> None:
    """Work out what a customer has; an event, which shows ten at most, tells of a difference."""
    if not account.store.kinds.get("entitlements.feature"):
        return
    wanted = _features(account, customer_id)
    have = {one["lookup_key"]: one for one in account.store.of("entitlements.active_entitlement", customer=customer_id)}
    if wanted.keys() == have.keys():
        return
    for key in have.keys() - wanted.keys():
        account.store.remove(have[key])
    for key in sorted(wanted.keys() - have.keys()):
        feature = wanted[key]
        account.store.add(
            fresh(
                account, "entitlements.active_entitlement", "ent", customer=customer_id, feature=feature, lookup_key=key
            )
        )
    page = _page(account, customer_id, {"limit": SHOWN_IN_EVENT})
    summary: Obj = {"object": "entitlements.active_entitlement_summary", "customer": customer_id, "livemode": False}
    emit(account, "entitlements.active_entitlement_summary.updated", summary | {"entitlements": page})


def _features(account: Account, customer_id: str) -> dict[str, str]:
    """Feature ids by lookup key, of every product in a subscription that gives something."""
    given = [one for one in account.store.of("subscription", customer=customer_id) if one["status"] in GIVING]
    products = {item["price"]["product"] for one in given for item in one["items"]["data"]}
    attached = [one for one in account.store.of("product_feature") if one["product"] in products]
    return {one["entitlement_feature"]["lookup_key"]: one["entitlement_feature"]["id"] for one in attached}


def _page(account: Account, customer_id: str, params: Obj) -> Obj:
    every = account.store.of("entitlements.active_entitlement", customer=customer_id)
    page = page_of(every, params, "/v1/entitlements/active_entitlements")
    names = ("id", "object", "feature", "livemode", "lookup_key")
    page["data"] = [{name: one[name] for name in names} for one in page["data"]]
    return page


def list_active(account: Account, params: Obj) -> Obj:
    required(params, "customer")
    return _page(account, params["customer"], params)


def add_feature(account: Account, params: Obj) -> Obj:
    required(params, "lookup_key", "name")
    if account.store.of("entitlements.feature", lookup_key=params["lookup_key"]):
        raise StripeError("A feature already uses that lookup key.", code="resource_already_exists", param="lookup_key")
    obj = fresh(account, "entitlements.feature", "feat", lookup_key=params["lookup_key"], name=params["name"])
    merge_metadata(obj, params)
    account.store.add(obj)
    return _shown(obj)


def list_features(account: Account, params: Obj) -> Obj:
    wanted = {"lookup_key": params["lookup_key"]} if params.get("lookup_key") else {}
    page = page_of(account.store.of("entitlements.feature", **wanted), params, "/v1/entitlements/features")
    return page | {"data": [_shown(one) for one in page["data"]]}


def attach_feature(account: Account, params: Obj, object_id: str) -> Obj:
    required(params, "entitlement_feature")
    product = account.store.get("product", object_id)
    feature = account.store.get("entitlements.feature", params["entitlement_feature"], "entitlement_feature")
    obj = fresh(account, "product_feature", "prodft", entitlement_feature=_shown(feature), product=product["id"])
    create(account, obj)
    _refresh_all(account)
    return _shown(obj)


def _refresh_all(account: Account) -> None:
    for customer in account.store.of("customer"):
        refresh(account, customer["id"])


def _follow(account: Account, subscription: Obj) -> None:
    refresh(account, subscription["customer"])


def _shown(obj: Obj) -> Obj:
    """What the API shows; the rest is for us."""
    return {name: value for name, value in obj.items() if name not in ("created", "product")}


FOLLOWS["subscription"] = _follow
OPERATIONS: list[Operation] = [
    ("GET", "/v1/entitlements/active_entitlements", list_active),
    ("POST", "/v1/entitlements/features", add_feature),
    ("GET", "/v1/entitlements/features", list_features),
    ("POST", "/v1/products/{object_id}/features", attach_feature),
]
