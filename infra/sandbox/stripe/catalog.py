"""Products and prices; prices are found by lookup key (docs.stripe.com/products-prices/manage-prices#lookup-keys)."""

from __future__ import annotations

from infra.sandbox.stripe.changes import changing, create
from infra.sandbox.stripe.events import emit
from infra.sandbox.stripe.objects import nulls
from infra.sandbox.stripe.params import boolean, integer, merge_metadata, one_of, required, take
from infra.sandbox.stripe.store import Account, Obj, StripeError, page_of
from infra.sandbox.stripe.wire import Operation

INTERVALS = ("day", "week", "month", "year")


def add_product(account: Account, params: Obj) -> Obj:
    """With an id of the caller's own, if given; that id taken is an error."""
    required(params, "name")
    if account.store.find(params.get("id")):
        raise StripeError("Product already exists.", code="resource_already_exists", param="id")
    obj: Obj = {
        "id": params.get("id") or account.new_id("prod"),
        "object": "product",
        "active": boolean(params, "active", default=True),
        "created": account.now(),
        "updated": account.now(),
        "images": [],
        "livemode": False,
        "marketing_features": [],
        "metadata": {},
        "type": "service",
        **nulls("default_price description name package_dimensions shippable statement_descriptor tax_code"),
        **nulls("unit_label url"),
    }
    _fill_product(obj, params)
    return create(account, obj, "product.created")


def update_product(account: Account, params: Obj, object_id: str) -> Obj:
    obj = account.store.get("product", object_id)
    with changing(account, obj, "product.updated"):
        obj["active"] = boolean(params, "active", default=obj["active"])
        _fill_product(obj, params)
        obj["updated"] = account.now()
    return obj


def delete_product(account: Account, params: Obj, object_id: str) -> Obj:
    obj = account.store.get("product", object_id)
    if account.store.of("price", product=object_id):
        raise StripeError("This product cannot be deleted because it has one or more user-created prices.")
    account.store.remove(obj)
    emit(account, "product.deleted", obj)
    return {"id": object_id, "object": "product", "deleted": True}


def list_products(account: Account, params: Obj) -> Obj:
    wanted = {"active": boolean(params, "active")} if "active" in params else {}
    every = [one for one in account.store.of("product", **wanted) if one["id"] in params.get("ids", [one["id"]])]
    return page_of(every, params, "/v1/products")


def add_price(account: Account, params: Obj) -> Obj:
    required(params, "currency")
    product = params.get("product")
    if "product_data" in params:
        product = add_product(account, params["product_data"])["id"]
    amount = integer(params, "unit_amount")
    recurring = params.get("recurring")
    obj: Obj = {
        "id": account.new_id("price"),
        "object": "price",
        "active": boolean(params, "active", default=True),
        "billing_scheme": "per_unit",
        "created": account.now(),
        "currency": str(params["currency"]).lower(),
        "livemode": False,
        "metadata": {},
        "product": account.store.get("product", product, "product")["id"],
        "recurring": _recurring(recurring) if recurring else None,
        "tax_behavior": "unspecified",
        "type": "recurring" if recurring else "one_time",
        "unit_amount": amount,
        "unit_amount_decimal": params.get("unit_amount_decimal") or (None if amount is None else str(amount)),
        **nulls("custom_unit_amount lookup_key nickname tiers_mode transform_quantity"),
    }
    _fill_price(account, obj, params)
    return create(account, obj, "price.created")


def update_price(account: Account, params: Obj, object_id: str) -> Obj:
    """Amount and interval never change: another price is another object."""
    obj = account.store.get("price", object_id)
    with changing(account, obj, "price.updated"):
        obj["active"] = boolean(params, "active", default=obj["active"])
        _fill_price(account, obj, params)
    return obj


def list_prices(account: Account, params: Obj) -> Obj:
    wanted: Obj = {name: params[name] for name in ("product", "currency", "type") if params.get(name)}
    wanted |= {"active": boolean(params, "active")} if "active" in params else {}
    keys = params.get("lookup_keys")
    every = [one for one in account.store.of("price", **wanted) if not keys or one["lookup_key"] in keys]
    return page_of(every, params, "/v1/prices")


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


def _fill_product(obj: Obj, params: Obj) -> None:
    take(obj, params, "name", "description", "default_price", "statement_descriptor", "unit_label", "url", "tax_code")
    merge_metadata(obj, params)
    if "marketing_features" in params:
        obj["marketing_features"] = params["marketing_features"] or []


def _fill_price(account: Account, obj: Obj, params: Obj) -> None:
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


def retrieve_product(account: Account, params: Obj, object_id: str) -> Obj:
    return account.store.get("product", object_id)


def retrieve_price(account: Account, params: Obj, object_id: str) -> Obj:
    return account.store.get("price", object_id)


OPERATIONS: list[Operation] = [
    ("POST", "/v1/products", add_product),
    ("GET", "/v1/products", list_products),
    ("GET", "/v1/products/{object_id}", retrieve_product),
    ("POST", "/v1/products/{object_id}", update_product),
    ("DELETE", "/v1/products/{object_id}", delete_product),
    ("POST", "/v1/prices", add_price),
    ("GET", "/v1/prices", list_prices),
    ("GET", "/v1/prices/{object_id}", retrieve_price),
    ("POST", "/v1/prices/{object_id}", update_price),
]
