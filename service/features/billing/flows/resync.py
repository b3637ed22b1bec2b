"""Have every living customer read again, after a mistake of ours was mended: no message has to be sent anew."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select

from service.core.context import Resources
from service.features.billing.actions.marks import read_again
from service.features.billing.models import BillingCustomer

BATCH = 500


async def resync_everybody(resources: Resources) -> int:
    """Mark them, a bounded number to a transaction, so that no webhook waits for a lock; how many there were."""
    livemode, count, last = resources.settings.stripe_livemode, 0, UUID(int=0)
    living = select(BillingCustomer.id).where(
        BillingCustomer.deleted_at.is_(None), BillingCustomer.livemode == livemode
    )
    while True:
        async with resources.database.unit_of_work() as work:
            batch = living.where(BillingCustomer.id > last).order_by(BillingCustomer.id).limit(BATCH)
            found = list((await work.session.execute(batch)).scalars())
            count += await read_again(work, found, behind=count)
        if len(found) < BATCH:
            return count
        last = found[-1]
