"""Makes the copies that somebody asked for: one at a time per worker, anew when a worker died over one.

    claim -> read batch by batch, pack, store as it comes -> finish (audited, mailed) -> removed after 24 hours

A claim is a lease that `Progress` renews; whoever wakes up after it ran out finds that the copy is another's by now and
throws away what it made. Nothing is resumed in the middle: half an archive is worth nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from service.core import clock
from service.core.context import SYSTEM, Actor, ActorKind, Caller, Context, Resources
from service.core.database import Database
from service.core.errors import Unavailable
from service.core.ids import new_id
from service.core.logging import get_logger
from service.features.privacy.actions import fail_export, finish_export
from service.features.privacy.flows.archive import zipped
from service.features.privacy.flows.contents import person_of, personal_entries
from service.features.privacy.flows.progress import LEASE, Lost, Progress
from service.features.privacy.flows.workspace import workspace_entries
from service.features.privacy.models import Scope
from service.features.privacy.models.exports import new_path
from service.guardrails.jobs.runner import where
from service.guardrails.residency import at_home, place
from service.integrations.storage import Storage, StorageAway

log = get_logger()

ATTEMPTS = 5
WAIT = timedelta(seconds=30)
AWAY = "Something we need does not answer at the moment. The copy is made by itself when it does."
BROKEN = "Something goes wrong on our side each time. Ask again later, or write to us."
CLAIM = """
    UPDATE data_exports SET state = 'building', attempts = attempts + 1, claim = $1, leased_until = $3, done = 0,
        rows = 0, remark = ''
    WHERE id = (
        SELECT id FROM data_exports
        WHERE state IN ('waiting', 'building') AND (leased_until IS NULL OR leased_until < $2)
        ORDER BY asked_at LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING id, user_id, organization_id, scope, claim, attempts, asked_at
"""
GIVE_BACK = """
    UPDATE data_exports SET state = 'waiting', claim = NULL, leased_until = $3, remark = $4, attempts = $5
    WHERE id = $1 AND claim = $2
"""
OVER = """
    SELECT id, key FROM data_exports
    WHERE state = 'ready' AND expires_at <= $1 AND (leased_until IS NULL OR leased_until <= $1)
    ORDER BY expires_at LIMIT $2
"""
ASK_LATER = "UPDATE data_exports SET leased_until = $2 WHERE id = $1"
LATER = timedelta(minutes=5)
EXPIRE = "UPDATE data_exports SET state = 'expired', key = '', leased_until = NULL WHERE id = $1"


async def make_next(resources: Resources, maintenance: Database) -> bool:
    """Make the copy that has waited longest; False when none waits."""
    now = clock.now()
    async with maintenance.unit_of_work() as work:
        held = await work.raw.fetchrow(CLAIM, new_id(), now, now + LEASE)
    if held is None:
        return False
    try:
        await _make(resources, maintenance, held)
    except Lost:
        log.info("export taken over", export=str(held["id"]))
    except (StorageAway, Unavailable, OSError) as error:
        log.warning("export waits", export=str(held["id"]), error=type(error).__name__)
        await _give_back(maintenance, held, AWAY, WAIT, held["attempts"] - 1)
    except asyncio.CancelledError:
        # The worker is stopped: the next one need not wait until the lease has run out.
        await asyncio.shield(_give_back(maintenance, held, "", timedelta(), held["attempts"] - 1))
        raise
    except Exception as error:  # one copy that cannot be made must not keep everybody else's waiting
        log.error("export failed", export=str(held["id"]), error=type(error).__name__, where=where(error))
        await _give_back(maintenance, held, AWAY, WAIT * 2 ** held["attempts"], held["attempts"])
    return True


async def _make(resources: Resources, maintenance: Database, held: Any) -> None:
    if held["attempts"] > ATTEMPTS:
        async with _acting(resources, held) as ctx:
            await fail_export(ctx, held["id"], held["claim"], BROKEN)
        return
    progress = Progress(maintenance, held["id"], held["claim"], held["asked_at"])
    storage, path = resources.get(Storage), new_path(held["id"])
    if held["scope"] == Scope.PERSON:
        key = at_home(resources, path)
        person = await person_of(maintenance, held["user_id"])
        if person is None:
            raise Lost
        entries = personal_entries(resources, maintenance, person, progress)
    else:
        async with _acting(resources, held) as ctx:
            key = await place(ctx, path)
        entries = workspace_entries(resources, held["organization_id"], progress)
    size = await storage.put(key, zipped(entries))
    finished = None
    try:
        await progress.tell()
        async with _acting(resources, held) as ctx:
            finished = await finish_export(ctx, held["id"], held["claim"], key, size, progress.missing)
    finally:
        if finished is None:
            with suppress(StorageAway):
                await storage.delete(key)


async def remove_expired(resources: Resources, maintenance: Database, batch: int = 100) -> int:
    """Archives past their time, from the store first: a row that says `expired` must be true."""
    async with maintenance.unit_of_work(read_only=True) as work:
        over = await work.raw.fetch(OVER, clock.now(), batch)
    for row in over:
        try:
            await resources.get(Storage).delete(row["key"])
        except StorageAway as error:
            # Those that a store refuses must not keep the others from going.
            log.warning("expired export stays", export=str(row["id"]), error=str(error))
            async with maintenance.unit_of_work() as work:
                await work.raw.execute(ASK_LATER, row["id"], clock.now() + LATER)
            continue
        async with maintenance.unit_of_work() as work:
            await work.raw.execute(EXPIRE, row["id"])
    return len(over)


async def _give_back(maintenance: Database, held: Any, remark: str, wait: timedelta, attempts: int) -> None:
    async with maintenance.unit_of_work() as work:
        await work.raw.execute(GIVE_BACK, held["id"], held["claim"], clock.now() + wait, remark, attempts)


@asynccontextmanager
async def _acting(resources: Resources, held: Any) -> AsyncIterator[Context]:
    """The worker, on behalf of whoever asked; inside the organization when it is an organization's copy."""
    tenant: UUID | None = held["organization_id"]
    async with resources.database.unit_of_work(tenant=tenant, user=held["user_id"]) as work:
        by = Actor(ActorKind.USER, held["user_id"])
        caller = Caller(request_id=f"export-{held['id']}")
        yield Context(work, resources, SYSTEM, caller, organization_id=tenant, on_behalf_of=by)
