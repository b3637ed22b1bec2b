"""Whose turn it is: one import at a time per organization, and among organizations the one that waited longest.

A claim is a lease. It is no lock: whoever wakes up after it ran out finds, in the transaction that would store
something, that the import is another worker's by now, and stores nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID

from service.core.context import Resources
from service.core.database import Database, UnitOfWork
from service.core.ids import new_id
from service.core.statements import PreparedText
from service.features.imports.models import DecimalMark, Mode, State
from service.features.indicators.actions import MOST_NAMED

LEASE = timedelta(seconds=30)
# As the maintenance role, which sees every organization. A finished import has its file until that is deleted, and
# one that has been arriving for longer than any upload may take died on its way.
DUE = """
    SELECT id, organization_id FROM imports AS waiting
    WHERE object_key IS NOT NULL AND (leased_until IS NULL OR leased_until < now())
      AND (state <> 'arriving' OR created_at < now() - interval '30 minutes')
      AND NOT EXISTS (
        SELECT FROM imports AS earlier WHERE earlier.organization_id = waiting.organization_id
        AND earlier.object_key IS NOT NULL AND earlier.state <> 'arriving' AND earlier.id < waiting.id
    )
    ORDER BY served_at NULLS FIRST, id LIMIT 1
"""
# A claim that was not given back was lost with its worker. It counts: a file that kills whoever reads it must not take
# down one worker after another for ever.
CLAIM = PreparedText("""
    UPDATE imports SET attempts = attempts + (claim IS NOT NULL)::integer, claim = :token,
        leased_until = now() + CAST(:lease AS interval), served_at = now()
    WHERE organization_id = :context_tenant AND id = :id AND object_key IS NOT NULL
      AND (leased_until IS NULL OR leased_until < now())
    RETURNING *
""")
HOLD = PreparedText("""
    SELECT cancelled_at IS NOT NULL AS cancelled FROM imports
    WHERE organization_id = :context_tenant AND id = :id AND claim = :claim FOR UPDATE
""")
ADVANCE = PreparedText("""
    UPDATE imports SET state = :state, layout = :layout, position = :position, line = :line, rows = rows + :rows,
        added = added + :added, unchanged = unchanged + :unchanged, refused = refused + :refused,
        fed = CASE WHEN cardinality(CAST(:fed AS uuid[])) = 0 THEN fed ELSE
            ARRAY(SELECT DISTINCT one FROM unnest(fed || CAST(:fed AS uuid[])) AS one ORDER BY one LIMIT :named) END,
        remark = '', attempts = 0, leased_until = now() + CAST(:lease AS interval)
    WHERE organization_id = :context_tenant AND id = :id AND claim = :claim
""")
GIVE_BACK = PreparedText("""
    UPDATE imports SET claim = NULL, leased_until = now() + CAST(:wait AS interval),
        remark = CASE WHEN finished_at IS NULL THEN :remark ELSE remark END, attempts = attempts + :failures
    WHERE organization_id = :context_tenant AND id = :id AND claim = :claim
""")
FORGET_FILE = PreparedText("""
    UPDATE imports SET object_key = NULL, claim = NULL, leased_until = NULL
    WHERE organization_id = :context_tenant AND id = :id AND claim = :claim
""")


class Lost(Exception):
    """Another worker has taken over: this one must leave no trace."""


class Cancelled(Exception):
    """Somebody does not want it any more."""


class Claim:
    """An import that is ours for the moment, as it stands; every change goes through `advance`."""

    def __init__(self, row: Any) -> None:
        self.id, self.organization_id, self.token = row["id"], row["organization_id"], row["claim"]
        self.object_key, self.indicator_id = row["object_key"], row["indicator_id"]
        self.mode, self.zone, self.decimal = Mode(row["mode"]), row["zone"], DecimalMark(row["decimal"])
        self.state, self.layout, self.position = State(row["state"]), row["layout"], row["position"]
        self.line, self.refused, self.attempts = row["line"], row["refused"], row["attempts"]
        self.size, self.created_by, self.finished = row["size"], row["created_by"], row["finished_at"] is not None


async def claim(resources: Resources, maintenance: Database) -> Claim | None:
    """The import whose turn it is, ours for LEASE; None when none waits or somebody else was quicker."""
    async with maintenance.connection() as connection:
        due = await UnitOfWork(connection).raw.fetchrow(DUE)
    if due is None:
        return None
    async with resources.database.unit_of_work(tenant=due["organization_id"]) as work:
        row = await work.fetch_one(CLAIM, id=due["id"], token=new_id(), lease=LEASE)
    return Claim(row) if row else None


async def hold(work: UnitOfWork, held: Claim) -> None:
    """Keep everybody else from the import until this transaction ends. Raises Lost, Cancelled."""
    row = await work.fetch_one(HOLD, id=held.id, claim=held.token)
    if row is None:
        raise Lost
    if row["cancelled"] and held.state is not State.STORING and not held.finished:
        raise Cancelled


async def advance(work: UnitOfWork, held: Claim, fed: Collection[UUID] = (), **counts: int) -> None:
    """Write down how far `held` has come, beside what was stored in the same transaction."""
    known = {"rows": 0, "added": 0, "unchanged": 0, "refused": 0, **counts}
    held.refused += known["refused"]
    place = {"state": held.state, "layout": held.layout, "position": held.position, "line": held.line}
    told = {"fed": list(fed), "named": MOST_NAMED}
    await work.fetch(ADVANCE, id=held.id, claim=held.token, lease=LEASE, **told, **place, **known)


async def give_back(
    resources: Resources, held: Claim, *, remark: str = "", wait: timedelta = timedelta(), failures: int = 0
) -> None:
    """Somebody's next turn; with `remark`, which the page shows, after a while."""
    async with resources.database.unit_of_work(tenant=held.organization_id) as work:
        more = {"remark": remark, "wait": wait, "failures": failures}
        await work.fetch(GIVE_BACK, id=held.id, claim=held.token, **more)


async def forget_file(resources: Resources, held: Claim) -> None:
    async with resources.database.unit_of_work(tenant=held.organization_id) as work:
        await work.fetch(FORGET_FILE, id=held.id, claim=held.token)
