"""What an invoice looks like."""

from __future__ import annotations

from infra.sandbox.stripe.objects import listing
from infra.sandbox.stripe.shapes import fresh
from infra.sandbox.stripe.store import Account, Obj


def shape(account: Account, customer: Obj, reason: str, lines: list[Obj], subscription: Obj | None) -> Obj:
    """An invoice that is not kept anywhere yet: a draft in the making, or a preview."""
    invoice = fresh(account, "invoice", "in", billing_reason=reason, customer=customer["id"])
    for line in lines:
        line["invoice"] = invoice["id"]
    total = sum(line["amount"] for line in lines)
    parent = None
    if subscription:
        details = {"metadata": dict(subscription["metadata"]), "subscription": subscription["id"]}
        parent = {"type": "subscription_details", "subscription_details": details, "quote_details": None}
    invoice |= {f"customer_{name}": customer[name] for name in ("email", "name", "phone")}
    invoice |= dict.fromkeys(("subtotal", "subtotal_excluding_tax", "total", "total_excluding_tax"), total)
    invoice |= dict.fromkeys(("amount_due", "amount_remaining"), max(0, total + customer["balance"]))
    if subscription:
        invoice |= {name: subscription[name] for name in ("collection_method", "default_payment_method")}
    return invoice | {
        "currency": (lines or [subscription or {"currency": "usd"}])[0]["currency"],
        "lines": listing(lines, f"/v1/invoices/{invoice['id']}/lines"),
        "parent": parent,
        "period_end": account.now(),
        "period_start": account.now(),
        "starting_balance": customer["balance"],
    }
