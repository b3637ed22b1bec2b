"""Have customers read again, after a mistake of ours was mended: no message has to be sent anew."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

from sqlalchemy import select

from service.core.context import Resources
from service.features.billing.actions.marks import read_again
from service.features.billing.models import BillingCustomer

BATCH = 500


async def batches(
    resources: Resources, *, customer: str = "", organization: UUID | None = None
) -> AsyncIterator[list[BillingCustomer]]:
    """The one with Stripe's id, those of an organization, or, with neither, every living one; nothing stays open."""
    model, last = BillingCustomer, UUID(int=0)
    mine = select(model).where(model.livemode == resources.settings.stripe_livemode).order_by(model.id).limit(BATCH)
    if customer:
        mine = mine.where(model.stripe_customer_id == customer)
    elif organization:
        mine = mine.where(model.organization_id == organization)
    else:
        mine = mine.where(model.deleted_at.is_(None))
    while True:
        async with resources.database.unit_of_work(read_only=True) as work:
            found = list((await work.session.execute(mine.where(model.id > last))).scalars())
        yield found
        if len(found) < BATCH:
            return
        last = found[-1].id


async def resync_customers(resources: Resources, *, customer: str = "", organization: UUID | None = None) -> int:
    """Mark them, a bounded number to a transaction, so that no webhook waits for a lock; how many there were."""
    count = 0
    async for some in batches(resources, customer=customer, organization=organization):
        async with resources.database.unit_of_work() as work:
            count += await read_again(work, [one.id for one in some], behind=count)
    return count
