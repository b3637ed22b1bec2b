"""What sets the copy in motion by hand: the tie to a customer, and "read this one again, whatever held it up".

Customers are locked before messages, in the order of their ids, as the synchronizer does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from service.core.database import UnitOfWork
from service.core.ids import new_id

SPREAD_MS = 200
"""Between one customer and the next of a long line: what Stripe lets us read beside everything else."""
# Two generations at once: one for what had waited, one for the tie itself, so that everything is read.
TIE = """
    INSERT INTO billing_customers
        (id, organization_id, stripe_customer_id, livemode, created_at, dirty_gen, dirty_since)
    VALUES ($1, $2, $3, $4, now(), 2, now()) ON CONFLICT DO NOTHING RETURNING id
"""
RELEASE = """
    UPDATE inbox SET gen = 1, state = 'pending', reason = ''
    WHERE source = 'stripe' AND subject = $1 AND (state = 'unmatched' OR (state = 'ignored' AND reason = 'foreign'))
"""
AGAIN = f"""
    WITH held AS (SELECT id FROM billing_customers WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE),
    placed AS (SELECT id, row_number() OVER (ORDER BY id) - 1 AS place FROM held)
    UPDATE billing_customers AS customer SET dirty_gen = dirty_gen + 2, dirty_since = coalesce(dirty_since, now()),
        failures = 0, dead_at = NULL, last_error = NULL,
        next_attempt_at = now() + ($2 + placed.place) * interval '{SPREAD_MS} milliseconds'
    FROM placed WHERE customer.id = placed.id
"""  # noqa: S608 - our own constant


async def tie(work: UnitOfWork, organization_id: UUID, customer: str, *, livemode: bool) -> UUID | None:
    """Tie a customer to an organization and release the messages that waited for it; None: one of them is tied."""
    found: UUID | None = await work.raw.fetchval(TIE, new_id(), organization_id, customer, livemode)
    if found is not None:
        await work.raw.execute(RELEASE, customer)
    return found


async def read_again(work: UnitOfWork, customers: Sequence[UUID], *, behind: int = 0) -> int:
    """Mark these customers, dead letters too, to be read in full; how many there were. `behind` others come first."""
    return int((await work.raw.execute(AGAIN, list(customers), behind)).rsplit(" ", 1)[1])
