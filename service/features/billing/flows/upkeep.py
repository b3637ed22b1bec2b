"""Looks again where time alone changed something: a period that ended unrenewed, a gift whose end has come."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select

from service.core import clock
from service.core.context import Context
from service.core.database import UnitOfWork
from service.features.billing.flows.apply import RECENT, refresh_entitlement
from service.features.billing.flows.synchronize import mark
from service.features.billing.models import BillingCustomer, Invoice
from service.features.billing.models.mirror import subscriptions_in_mode
from service.features.billing.models.plans import FREE

# For a day: what is still not renewed by then is drift (a sweep counts it), or an end.
RAN_OUT = """
    SELECT organization_id FROM entitlements AS held
    WHERE plan <> $1 AND (valid_until BETWEEN now() - interval '1 day' AND now()
        OR source = 'override' AND NOT EXISTS (
            SELECT FROM billing_overrides AS given
            WHERE given.organization_id = held.organization_id AND given.plan = held.plan AND ends_at > now()))
"""


async def ran_out(work: UnitOfWork) -> list[UUID]:
    """Organizations to look at again; `work` is the maintenance role's."""
    return [row["organization_id"] for row in await work.raw.fetch(RAN_OUT, FREE.key)]


async def derive_again(ctx: Context) -> None:
    """Write what holds for the acting organization now, and have its customer read again."""
    owned = select(BillingCustomer).where(BillingCustomer.organization_id == ctx.organization_id)
    # In one order, as everywhere: whoever derives holds the customer's row.
    for customer in (await ctx.db.execute(owned.order_by(BillingCustomer.id).with_for_update())).scalars():
        await mark(ctx.work, customer.id)
    recent = select(Invoice).where(Invoice.created_at > clock.now() - RECENT)
    mine = subscriptions_in_mode(ctx.organization_id, ctx.settings.stripe_livemode)
    subscriptions = list((await ctx.db.execute(mine)).scalars())
    await refresh_entitlement(ctx, subscriptions, list((await ctx.db.execute(recent)).scalars()))
