"""A subscription of the demo, bought where ours are bought; and a message from Stripe that waits for staff."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sqlalchemy import select

from service.core import clock
from service.core.context import Resources
from service.features.billing.flows.operations import ensure_customer
from service.features.billing.flows.requests import price_of
from service.features.billing.flows.synchronize import synchronize_now
from service.features.billing.models import BillingCustomer
from service.guardrails.inbox import InboxMessage, State
from service.integrations.stripe.client import StripeApi

CARD = "pm_card_visa"


async def subscribe(resources: Resources, organization_id: UUID, plan: str) -> None:
    """In the sandbox's stand-in, as if somebody had paid there; our copy is read from it like everybody's."""
    if not resources.settings.stripe_api_base:
        return
    api, own = resources.get(StripeApi), f"ballast:demo:{organization_id}"
    await ensure_customer(resources, organization_id)
    async with resources.database.unit_of_work(tenant=organization_id, read_only=True) as work:
        customer = (await work.session.scalars(select(BillingCustomer))).one()
    theirs = {"customer": customer.stripe_customer_id}
    card = await api.call("post", f"/v1/payment_methods/{CARD}/attach", theirs, key=f"{own}:card")
    bought = {"items": [{"price": await price_of(api, plan)}], "default_payment_method": card["id"]}
    await api.call("post", "/v1/subscriptions", theirs | bought, key=f"{own}:subscription")
    await synchronize_now(resources, customer.id)


def message_of_nobody() -> InboxMessage:
    """About a customer that no organization has; staff link it, or discard it."""
    return InboxMessage(
        source="stripe", realm="test", external_id="evt_demo_of_nobody", type="customer.updated",
        subject="cus_demo_of_nobody", facts={}, body=b"{}", state=State.UNMATCHED, reason="", attempts=12,
        received_at=clock.now() - timedelta(hours=5),
    )  # fmt: skip
