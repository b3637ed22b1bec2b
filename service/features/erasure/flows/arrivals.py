"""Requests that nobody makes: deleted accounts whose time is over, and people whom a backup brought back."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

import asyncpg

from service.core import clock
from service.core.context import Resources
from service.core.database import Base, Database
from service.core.errors import Unavailable
from service.core.ids import new_id
from service.core.logging import get_logger
from service.features.accounts.models.user import UNDO_DAYS
from service.features.erasure.flows import ledger
from service.features.erasure.flows.ledger import Entry
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
# What is executing is under way: its tables come after its entry, perhaps hours after, while something holds it up.
NOT_DONE = """
    SELECT entry AS id FROM unnest($1::uuid[]) AS entry
    WHERE NOT EXISTS (SELECT FROM erasure_requests WHERE id = entry AND state IN ('executing', 'done'))
"""
UNDER_WAY = "SELECT true FROM erasure_requests WHERE user_id = $1 AND id <> $2 AND state = 'executing'"
# A statement of its own: together with AGAIN, the other request would still be open when this one opens.
ASIDE = """
    UPDATE erasure_requests SET state = 'withdrawn', finished_at = $3, email = NULL, reason = NULL
    WHERE user_id = $1 AND id <> $2 AND finished_at IS NULL
"""
AGAIN = """
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


async def undone(resources: Resources, known: Iterable[UUID]) -> list[UUID]:
    """Of these erasures, those that this database does not know: it was restored, and they are to be done again."""
    async with resources.database.unit_of_work(tenant=None, read_only=True) as work:
        return [row["id"] for row in await work.raw.fetch(NOT_DONE, list(known))]


async def unreplayed(resources: Resources, known: Iterable[UUID] | None = None) -> list[Entry]:
    """The same as the ledger has them, of all that it knows or of these."""
    known = await ledger.known(resources) if known is None else known
    return await ledger.read(resources, await undone(resources, known))


async def replay(resources: Resources, known: Iterable[UUID] | None = None) -> tuple[int, int]:
    """Begin them again; the machine takes each through all its steps. How many, and how many could not begin."""
    missing = await unreplayed(resources, known)
    if not missing:
        return 0, 0
    emails, begun = await _addresses(resources, missing), 0
    for entry in missing:
        try:
            begun += await _again(resources, entry, emails[entry.request_id])
        except (asyncpg.PostgresError, Unavailable) as error:  # one must not keep all others in the database
            log.error("erasure does not begin again", operation=str(entry.request_id), error=type(error).__name__)
    log.info("erasures begin again", count=begun)
    return begun, len(missing) - begun


async def _again(resources: Resources, entry: Entry, emails: set[str]) -> bool:
    """False while another erasure of the same person is under way: after that one."""
    now = clock.now()
    async with resources.database.unit_of_work(tenant=None) as work:
        if await work.raw.fetchval(UNDER_WAY, entry.user_id, entry.request_id):
            return False
        await work.raw.execute(ASIDE, entry.user_id, entry.request_id, now)
        joined = " ".join(sorted(emails)) or None
        await work.raw.execute(AGAIN, entry.request_id, entry.user_id, joined, now)
    return True


async def _addresses(resources: Resources, missing: list[Entry]) -> dict[UUID, set[str]]:
    """Under which addresses the database knows them, by request."""
    hashes = {bytes.fromhex(entry.address_hash) for entry in missing if entry.address_hash}
    async with resources.as_maintenance.unit_of_work(read_only=True) as work:
        by_hash = await addresses_behind(work, hashes, Base.metadata)
        accounts = await work.raw.fetch(
            "SELECT id, email FROM users WHERE id = ANY($1)", [entry.user_id for entry in missing]
        )
    by_id: dict[UUID, str] = {row["id"]: row["email"] for row in accounts}
    return {
        entry.request_id: by_hash.get(bytes.fromhex(entry.address_hash), set())
        | ({by_id[entry.user_id]} if entry.user_id in by_id else set())
        for entry in missing
    }
