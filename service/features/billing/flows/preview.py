"""What a change of plan would cost: asked of Stripe, never computed here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from service.core.context import Resources
from service.features.billing.flows.requests import item_of, price_of
from service.integrations.stripe.client import StripeApi


@dataclass(frozen=True, slots=True)
class Line:
    text: str
    amount: int


@dataclass(frozen=True, slots=True)
class Preview:
    """Amounts in minor units; `due_now` is negative or nothing when a credit is left for the next invoice."""

    lines: list[Line]
    due_now: int
    currency: str
    proration_date: int
    seats: int


async def preview(
    resources: Resources, organization_id: UUID, subscription: str, plan_key: str, proration_date: int
) -> Preview:
    """The invoice that changing to this plan at `proration_date` makes. Raises StripeFailed or Impossible."""
    api = resources.get(StripeApi)
    price = await price_of(api, plan_key)
    async with resources.database.unit_of_work(tenant=organization_id) as work:
        item = {**await item_of(work, subscription), "price": price}
    details: dict[str, Any] = {
        "items": [item], "proration_behavior": "always_invoice", "proration_date": proration_date,
    }  # fmt: skip
    asked = {"subscription": subscription, "subscription_details": details}
    found = await api.patiently("post", "/v1/invoices/create_preview", asked)
    lines = [
        Line(str(line.get("description") or ""), int(line.get("amount") or 0))
        for line in (found.get("lines") or {}).get("data") or []
    ]
    due = int(found.get("amount_due") or 0)
    return Preview(lines, due, str(found.get("currency") or ""), proration_date, item["quantity"])
