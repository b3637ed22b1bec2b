"""The items of a subscription; an upgrade keeps the item's id and changes its price."""

from __future__ import annotations

from copy import copy

from infra.sandbox.stripe.catalog import plan_of
from infra.sandbox.stripe.params import boolean, integer, merge_metadata
from infra.sandbox.stripe.shapes import fresh
from infra.sandbox.stripe.store import Account, Obj, StripeError


def new_item(account: Account, subscription_id: str, given: Obj, period: tuple[int, int]) -> Obj:
    """A new item. Raises StripeError for a price that is unknown, archived or not recurring."""
    item = fresh(account, "subscription_item", "si", subscription=subscription_id)
    set_period([item], *period)
    _fill(account, item, given)
    return item


def planned(account: Account, subscription: Obj, given: list[Obj]) -> list[Obj]:
    """The items as they will be; the subscription itself is left alone.

    Items that are not named stay, as at Stripe. Raises StripeError when none would be left.
    """
    current = subscription["items"]["data"]
    items = {item["id"]: copy(item) for item in current}
    period = (current[0]["current_period_start"], current[0]["current_period_end"])
    for change in given:
        if not change.get("id"):
            item = new_item(account, subscription["id"], change, period)
            items[item["id"]] = item
        elif change["id"] not in items:
            text = f"No such subscription item: '{change['id']}'"
            raise StripeError(text, code="resource_missing", param="items[0][id]")
        elif boolean(change, "deleted"):
            del items[change["id"]]
        else:
            _fill(account, items[change["id"]], change)
    prices = [item["price"]["id"] for item in items.values()]
    if not items or len(set(prices)) < len(prices):
        problem = "must keep at least one item" if not items else "cannot have two items of the same price"
        raise StripeError(f"A subscription {problem}.", param="items")
    return list(items.values())


def set_period(items: list[Obj], start: int, end: int) -> None:
    for item in items:
        item.update(current_period_start=start, current_period_end=end)


def interval(items: list[Obj]) -> tuple[str, int]:
    recurring = items[0]["price"]["recurring"]
    return recurring["interval"], recurring["interval_count"]


def _fill(account: Account, item: Obj, given: Obj) -> None:
    if given.get("price") or "price" not in item:
        price = account.store.get("price", given.get("price"), "items[0][price]")
        if not price["recurring"]:
            text = "The price specified is one_time, but this field only accepts recurring prices."
            raise StripeError(text, param="items[0][price]")
        if not price["active"]:
            text = "The price specified is inactive. This field only accepts active prices."
            raise StripeError(text, param="items[0][price]")
        # The object itself, not a copy: an item shows its price as it is today.
        item["price"], item["plan"] = price, plan_of(price)
    if item["price"]["recurring"]["usage_type"] == "licensed":
        item["quantity"] = integer(given, "quantity", item.get("quantity", 1))
    else:
        item.pop("quantity", None)
    merge_metadata(item, given)
