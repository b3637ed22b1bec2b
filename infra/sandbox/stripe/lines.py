"""What an invoice charges for: whole periods, and the difference that a change in the middle of one makes.

docs.stripe.com/billing/subscriptions/prorations
"""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction

from infra.sandbox.stripe import meters
from infra.sandbox.stripe.changes import create
from infra.sandbox.stripe.shapes import fresh
from infra.sandbox.stripe.store import Account, Obj


def period_lines(account: Account, subscription: Obj) -> list[Obj]:
    """One line per item for its current period; usage is that of the period before."""
    found = []
    for item in subscription["items"]["data"]:
        price, quantity = item["price"], item.get("quantity", 1)
        start, end = item["current_period_start"], item["current_period_end"]
        if price["recurring"]["usage_type"] == "metered":
            length = end - start
            start, end = start - length, start
            quantity = meters.usage(account, price, subscription["customer"], start, end)
        amount = 0 if subscription["status"] == "trialing" else quantity * (price["unit_amount"] or 0)
        text = f"{quantity} x {_name(account, price)}"
        details: Obj = {"subscription": subscription["id"], "subscription_item": item["id"], "proration": False}
        details |= {"invoice_item": None, "proration_details": None}
        parent: Obj = {"type": "subscription_item_details", "subscription_item_details": details}
        parent |= {"invoice_item_details": None}
        found.append(_line(account, amount, text, price, quantity, (start, end), parent))
    return found


def prorations(account: Account, subscription: Obj, items: list[Obj], moment: int) -> list[Obj]:
    """Pending invoice items, not kept yet: back for the unused rest of what goes, charged for that of what comes."""
    before = {item["id"]: item for item in subscription["items"]["data"]}
    after = {item["id"]: item for item in items}
    found = []
    for sign, these, others in ((-1, before, after), (1, after, before)):
        for item in these.values():
            other = others.get(item["id"])
            if other and _same(item, other):
                continue
            if part := _rest(account, subscription, item, moment, sign):
                found.append(part)
    return found


def full_periods(account: Account, subscription: Obj, items: list[Obj]) -> list[Obj]:
    """Lines for a cycle that starts over: the new items' whole periods."""
    return period_lines(account, subscription | {"items": {"data": items}, "status": "active"})


def keep(account: Account, parts: list[Obj]) -> list[Obj]:
    """Make pending invoice items real."""
    return [create(account, one, "invoiceitem.created") for one in parts]


def line_of(account: Account, part: Obj) -> Obj:
    """The invoice line of an invoice item."""
    detail = part["parent"]["subscription_details"] if part["parent"] else {}
    details: Obj = {"invoice_item": part["id"], "proration": part["proration"], "proration_details": None}
    details |= {"subscription": detail.get("subscription")}
    parent = {"type": "invoice_item_details", "invoice_item_details": details, "subscription_item_details": None}
    price = account.store.find(part["pricing"]["price_details"]["price"]) if part["pricing"] else None
    period = (part["period"]["start"], part["period"]["end"])
    return _line(account, part["amount"], part["description"], price, part["quantity"], period, parent)


def pending(account: Account, customer_id: str, subscription_id: str | None) -> list[Obj]:
    """Invoice items that wait for the next invoice, oldest first."""
    found = account.store.of("invoiceitem", customer=customer_id, invoice=None)
    return [one for one in reversed(found) if _subscription(one) in (subscription_id, None)]


def item_of(
    account: Account, customer_id: str, amount: int, currency: str, description: str | None, period: tuple[int, int]
) -> Obj:
    """An invoice item that belongs to no subscription."""
    return fresh(
        account,
        "invoiceitem",
        "ii",
        amount=amount,
        currency=currency,
        customer=customer_id,
        date=account.now(),
        description=description,
        period={"start": period[0], "end": period[1]},
    )


def _rest(account: Account, subscription: Obj, item: Obj, moment: int, sign: int) -> Obj | None:
    price, start, end = item["price"], item["current_period_start"], item["current_period_end"]
    if price["recurring"]["usage_type"] == "metered" or subscription["status"] == "trialing" or end <= moment:
        return None
    quantity = item.get("quantity", 1)
    share = Fraction(end - max(start, moment), end - start)
    amount = sign * int(quantity * (price["unit_amount"] or 0) * share + Fraction(1, 2))
    when = datetime.fromtimestamp(moment, UTC).strftime("%d %b %Y")
    kind = "Unused" if sign < 0 else "Remaining"
    text = f"{kind} time on {quantity} x {_name(account, price)} after {when}"
    part = item_of(account, subscription["customer"], amount, price["currency"], text, (moment, end))
    details = {"subscription": subscription["id"], "subscription_item": item["id"]}
    return part | {
        "discountable": False,
        "parent": {"type": "subscription_details", "subscription_details": details},
        "pricing": _pricing(price),
        "proration": True,
        "proration_details": {"discount_amounts": []},
        "quantity": quantity,
        "quantity_decimal": str(quantity),
    }


def _line(
    account: Account,
    amount: int,
    description: str | None,
    price: Obj | None,
    quantity: int,
    period: tuple[int, int],
    parent: Obj,
) -> Obj:
    details = parent["subscription_item_details"] or parent["invoice_item_details"]
    return fresh(
        account,
        "line_item",
        "il",
        amount=amount,
        currency=price["currency"] if price else "usd",
        description=description,
        discountable=not details["proration"],
        parent=parent,
        period={"start": period[0], "end": period[1]},
        pricing=_pricing(price) if price else None,
        quantity=quantity,
        quantity_decimal=str(quantity),
        subscription=details["subscription"],
        subtotal=amount,
    )


def _pricing(price: Obj) -> Obj:
    details = {"price": price["id"], "product": price["product"]}
    return {"type": "price_details", "price_details": details, "unit_amount_decimal": price["unit_amount_decimal"]}


def _name(account: Account, price: Obj) -> str:
    return str(account.store.get("product", price["product"])["name"])


def _same(one: Obj, other: Obj) -> bool:
    return bool(one["price"]["id"] == other["price"]["id"] and one.get("quantity") == other.get("quantity"))


def _subscription(part: Obj) -> str | None:
    return part["parent"]["subscription_details"]["subscription"] if part["parent"] else None
