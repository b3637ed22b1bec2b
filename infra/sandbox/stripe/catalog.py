"""Products and prices; prices are found by lookup key (docs.stripe.com/products-prices/manage-prices#lookup-keys)."""

from __future__ import annotations

from infra.sandbox.stripe.changes import changing, create
from infra.sandbox.stripe.objects import nulls
from infra.sandbox.stripe.params import boolean, integer, merge_metadata, one_of, required, take
from infra.sandbox.stripe.resources import collection, deleted, updated
from infra.sandbox.stripe.shapes import fresh
from infra.sandbox.stripe.store import Account, Obj, StripeError
from infra.sandbox.stripe.wire import Operation

INTERVALS = ("day", "week", "month", "year")


def add_product(account: Account, params: Obj) -> Obj:
    """With an id of the caller's own, if given; that id taken is an error."""
    required(params, "name")
    if account.store.find(params.get("id")):
        raise StripeError("Product already exists.", code="resource_already_exists", param="id")
    active = boolean(params, "active", default=True)
    obj = fresh(account, "product", "prod", active=active, updated=account.now())
    obj["id"] = params.get("id") or obj["id"]
    _fill_product(account, obj, params)
    return create(account, obj, "product.created")


def _keep_if_sold(account: Account, product: Obj) -> None:
    if account.store.of("price", product=product["id"]):
        raise StripeError("This product cannot be deleted because it has one or more user-created prices.")


def add_price(account: Account, params: Obj) -> Obj:
    required(params, "currency")
    product = params.get("product")
    if "product_data" in params:
        product = add_product(account, params["product_data"])["id"]
    amount = integer(params, "unit_amount")
    recurring = params.get("recurring")
    obj = fresh(
        account,
        "price",
        "price",
        active=boolean(params, "active", default=True),
        currency=str(params["currency"]).lower(),
        product=account.store.get("product", product, "product")["id"],
        recurring=_recurring(recurring) if recurring else None,
        type="recurring" if recurring else "one_time",
        unit_amount=amount,
        unit_amount_decimal=params.get("unit_amount_decimal") or (None if amount is None else str(amount)),
    )
    _fill_price(account, obj, params)
    return create(account, obj, "price.created")


def update_price(account: Account, params: Obj, object_id: str) -> Obj:
    with changing(account, account.store.get("price", object_id), "price.updated") as obj:
        _fill_price(account, obj, params)
    return obj


def plan_of(price: Obj) -> Obj:
    """The older object that a subscription item still shows beside its price."""
    recurring = price["recurring"] or {}
    return {
        "id": price["id"],
        "object": "plan",
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        "interval": recurring.get("interval"),
        "interval_count": recurring.get("interval_count"),
        "usage_type": recurring.get("usage_type"),
        **{name: price[name] for name in ["active", "billing_scheme", "created", "currency", "livemode", "metadata"]},
        **{name: price[name] for name in ["nickname", "product", "tiers_mode"]},
        **nulls("meter transform_usage trial_period_days"),
    }


def _fill_product(account: Account, obj: Obj, params: Obj) -> None:
    obj["active"] = boolean(params, "active", default=obj["active"])
    obj["updated"] = account.now()
    take(obj, params, "name", "description", "default_price", "statement_descriptor", "unit_label", "url", "tax_code")
    merge_metadata(obj, params)
    if "marketing_features" in params:
        obj["marketing_features"] = params["marketing_features"] or []


def _fill_price(account: Account, obj: Obj, params: Obj) -> None:
    """Amount and interval never change: another price is another object."""
    obj["active"] = boolean(params, "active", default=obj["active"])
    take(obj, params, "nickname")
    merge_metadata(obj, params)
    key = params.get("lookup_key")
    if not key or key == obj["lookup_key"]:
        return
    for holder in account.store.of("price", lookup_key=key):
        if not boolean(params, "transfer_lookup_key"):
            text = f"A price (`{holder['id']}`) already uses that lookup key."
            raise StripeError(text, code="resource_already_exists", param="lookup_key")
        with changing(account, holder, "price.updated"):
            holder["lookup_key"] = None
    obj["lookup_key"] = key


def _recurring(given: Obj) -> Obj:
    required(given, "interval")
    return {
        "interval": one_of(given, "interval", INTERVALS, ""),
        "interval_count": integer(given, "interval_count", 1),
        "meter": given.get("meter"),
        "trial_period_days": None,
        "usage_type": one_of(given, "usage_type", ("licensed", "metered"), "licensed"),
    }


OPERATIONS: list[Operation] = [
    ("POST", "/v1/products", add_product),
    *collection("product", "/v1/products", "active", {"ids": lambda product, ids: product["id"] in ids}),
    updated("product", "/v1/products", "product.updated", _fill_product),
    deleted("product", "/v1/products", "product.deleted", _keep_if_sold),
    ("POST", "/v1/prices", add_price),
    *collection(
        "price",
        "/v1/prices",
        "active product currency type",
        {"lookup_keys": lambda price, keys: price["lookup_key"] in keys},
    ),
    ("POST", "/v1/prices/{object_id}", update_price),
]
