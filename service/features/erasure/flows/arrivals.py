"""Requests that nobody makes: deleted accounts whose time is over, and people whom a backup brought back."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from service.core import clock
from service.core.context import Resources
from service.core.database import Base, Database
from service.core.ids import new_id
from service.core.logging import get_logger
from service.features.accounts.models.user import UNDO_DAYS
from service.features.erasure.flows.ledger import Entry, entries
from service.guardrails.erasure import addresses_behind
from service.guardrails.purge import GRACE

log = get_logger()
AT_ONCE = 100
EXPIRED = """
    SELECT id, email FROM users WHERE deleted_at < $1
        AND NOT EXISTS (SELECT FROM erasure_requests WHERE user_id = users.id AND finished_at IS NULL)
    ORDER BY deleted_at LIMIT $2
"""
ADD = """
    INSERT INTO erasure_requests (id, user_id, email, state, source, reason, requested_at, due_at, next_attempt_at)
    VALUES ($1, $2, $3, 'waiting', 'deletion', '', $4, $4, $4) ON CONFLICT DO NOTHING
"""
NOT_DONE = """
    SELECT entry AS id FROM unnest($1::uuid[]) AS entry
    WHERE NOT EXISTS (SELECT FROM erasure_requests WHERE id = entry AND state = 'done')
"""
# What a backup from the middle of an erasure says was done may have been brought back with it: all steps again.
AGAIN = """
    WITH forgotten AS (DELETE FROM erasure_steps WHERE request_id = $1),
    others AS (
        UPDATE erasure_requests SET state = 'withdrawn', finished_at = $4, email = NULL, reason = NULL
        WHERE user_id = $2 AND id <> $1 AND finished_at IS NULL
    )
    INSERT INTO erasure_requests
        (id, user_id, email, state, source, reason, requested_at, began_at, next_attempt_at)
    VALUES ($1, $2, $3, 'executing', 'restore', '', $4, $4, $4)
    ON CONFLICT (id) DO UPDATE SET state = 'executing', source = 'restore', email = $3, finished_at = NULL,
        leased_until = NULL, next_attempt_at = $4, began_at = $4
"""


async def take_up_deleted(database: Database) -> int:
    """One request for each deleted account that nobody can bring back any more; how many."""
    now = clock.now()
    async with database.unit_of_work(tenant=None) as work:
        rows = await work.raw.fetch(EXPIRED, now - timedelta(days=UNDO_DAYS) - GRACE, AT_ONCE)
        for row in rows:
            await work.raw.execute(ADD, new_id(), row["id"], row["email"], now)
    return len(rows)


async def unreplayed(resources: Resources) -> list[Entry]:
    """Erasures that the ledger knows and this database does not: it was restored, and they are to be done again."""
    known = {entry.request_id: entry async for entry in entries(resources)}
    async with resources.database.unit_of_work(tenant=None, read_only=True) as work:
        rows = await work.raw.fetch(NOT_DONE, list(known))
    return [known[row["id"]] for row in rows if _is_over(known[row["id"]])]


async def replay(resources: Resources) -> int:
    """Begin them again; the machine takes each through all its steps. How many."""
    missing = await unreplayed(resources)
    if not missing:
        return 0
    assert resources.maintenance is not None  # noqa: S101 - only workers and the command line come here
    hashes = {bytes.fromhex(entry.address_hash) for entry in missing if entry.address_hash}
    async with resources.maintenance.unit_of_work(read_only=True) as work:
        by_hash = await addresses_behind(work, hashes, Base.metadata)
        accounts = await work.raw.fetch(
            "SELECT id, email FROM users WHERE id = ANY($1)", [entry.user_id for entry in missing]
        )
    by_id: dict[UUID, str] = {row["id"]: row["email"] for row in accounts}
    async with resources.database.unit_of_work(tenant=None) as work:
        for entry in missing:
            emails = by_hash.get(bytes.fromhex(entry.address_hash), set()) if entry.address_hash else set()
            emails |= {by_id[entry.user_id]} if entry.user_id in by_id else set()
            joined = " ".join(sorted(emails)) or None
            await work.raw.execute(AGAIN, entry.request_id, entry.user_id, joined, clock.now())
    log.info("erasures begin again", count=len(missing))
    return len(missing)


def _is_over(entry: Entry) -> bool:
    """Not one that the machine is at this very moment: its tables come after its entry."""
    return entry.erased_at < clock.now() - timedelta(minutes=10)
