"""What a Checkout session looks like."""

from __future__ import annotations

from infra.sandbox.stripe.params import boolean, integer, merge_metadata, one_of
from infra.sandbox.stripe.shapes import fresh
from infra.sandbox.stripe.store import Account, Obj

MODES = ("subscription", "setup")


def shape(account: Account, params: Obj, expires_at: int) -> Obj:
    """Open. A trial costs nothing today. Raises StripeError for prices that are unknown."""
    mode = one_of(params, "mode", MODES, "")
    items = line_items(account, params.get("line_items") or [])
    trial = params.get("subscription_data") or {}
    is_free = mode == "setup" or trial.get("trial_period_days") or trial.get("trial_end")
    total = 0 if is_free else sum(item["amount_total"] for item in items)
    session = fresh(
        account,
        "checkout.session",
        "cs_test",
        allow_promotion_codes=boolean(params, "allow_promotion_codes"),
        amount_subtotal=total,
        amount_total=total,
        currency=items[0]["currency"] if items else params.get("currency"),
        customer_creation=None if params.get("customer") else "always",
        expires_at=expires_at,
        mode=mode,
        payment_status="no_payment_required" if is_free else "unpaid",
        success_url=params["success_url"],
    )
    session["url"] = f"{account.address}/checkout/{session['id']}"
    session |= {name: params.get(name) for name in ("cancel_url", "client_reference_id", "customer", "customer_email")}
    merge_metadata(session, params)
    return session


def line_items(account: Account, given: list[Obj]) -> list[Obj]:
    found = []
    for index, one in enumerate(given):
        price = account.store.get("price", one.get("price"), f"line_items[{index}][price]")
        quantity = integer(one, "quantity", 1) or 1
        amount = quantity * (price["unit_amount"] or 0)
        metered = (price["recurring"] or {}).get("usage_type") == "metered"
        found.append(
            {
                "id": f"li_{price['id']}",
                "object": "item",
                "amount_discount": 0,
                "amount_subtotal": 0 if metered else amount,
                "amount_tax": 0,
                "amount_total": 0 if metered else amount,
                "currency": price["currency"],
                "description": account.store.get("product", price["product"])["name"],
                "price": price,
                "quantity": quantity,
            }
        )
    return found
