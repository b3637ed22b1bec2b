"""What the worker does with a file that came: have it scanned, have it decoded, and say what became of it.

No transaction is open meanwhile, and a lease that ran out only means that somebody looks twice. Fails closed: as long
as nobody has looked, the file waits.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from random import uniform
from uuid import UUID

import asyncpg
from prometheus_client import Counter, Gauge

from service.core import clock, telemetry
from service.core.context import SYSTEM, Caller, Context, Resources
from service.core.database import Database
from service.core.logging import get_logger
from service.features.files import actions
from service.features.files.flows.inspection import InspectionFailed, inspect
from service.features.files.models import FileState, new_path
from service.features.files.schemas import Judgement
from service.guardrails.residency import beside
from service.integrations.scanner import Scanner, ScannerAway
from service.integrations.storage import NotStored, Storage, StorageAway

log = get_logger()
judged = Counter("files_judged_total", "Files by what became of them", ("state",), registry=telemetry.REGISTRY)
oldest = Gauge("files_pending_oldest_seconds", "Age of the oldest unchecked file", registry=telemetry.REGISTRY)

LEASE = timedelta(minutes=2)
FIRST, LONGEST = 5.0, 300.0
AT_ONCE = 2
# One of each organization: whoever sends a thousand waits for themselves.
DUE = """
    SELECT id, organization_id FROM (
        SELECT DISTINCT ON (organization_id) id, organization_id, next_look_at FROM files
        WHERE state = 'pending' AND next_look_at <= $1 ORDER BY organization_id, next_look_at
    ) AS first ORDER BY next_look_at LIMIT 20
"""
WAITING = "SELECT min(created_at) FROM files WHERE state = 'pending'"
CLAIM = """
    UPDATE files SET next_look_at = $2, looks = looks + 1
    WHERE id = $1 AND state = 'pending' AND next_look_at <= $3 RETURNING key, kind, size, looks
"""
LATER = "UPDATE files SET next_look_at = $2 WHERE id = $1"


@asynccontextmanager
async def as_system(resources: Resources, organization_id: UUID) -> AsyncIterator[Context]:
    async with resources.database.unit_of_work(tenant=organization_id) as work:
        yield Context(work, resources, SYSTEM, Caller("files"), organization_id)


async def judge_due(resources: Resources, maintenance: Database) -> int:
    """One round of the worker over what waits; how many there were."""
    async with maintenance.unit_of_work(read_only=True) as work:
        due = await work.raw.fetch(DUE, clock.now())
        first = await work.raw.fetchval(WAITING)
    oldest.set((clock.now() - first).total_seconds() if first else 0)
    turns = iter(due)

    async def one_by_one() -> None:
        for row in turns:
            await _judge(resources, row["organization_id"], row["id"])

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_by_one())
    return len(due)


async def _judge(resources: Resources, organization_id: UUID, file_id: UUID) -> None:
    now = clock.now()
    async with resources.database.unit_of_work(tenant=organization_id) as work:
        file = await work.raw.fetchrow(CLAIM, file_id, now + LEASE, now)
    if file is None:
        return
    try:
        found = await _look(resources, organization_id, file)
    except (ScannerAway, StorageAway, InspectionFailed, OSError) as error:  # the last: no room for it, say
        # Nobody looked, so nobody gets it: the file waits, and so it does if this lasts for days.
        log.warning("file waits", file=str(file_id), error=str(error))
        pause = timedelta(seconds=min(LONGEST, FIRST * 2 ** min(file["looks"], 10)) * uniform(0.5, 1))  # noqa: S311 - spreading
        async with resources.database.unit_of_work(tenant=organization_id) as work:
            await work.raw.execute(LATER, file_id, clock.now() + pause)
        return
    async with as_system(resources, organization_id) as ctx:
        if await actions.judge_file(ctx, file_id, found) is not None:
            judged.labels(found.state.value).inc()


async def _look(resources: Resources, organization_id: UUID, file: asyncpg.Record) -> Judgement:
    storage = resources.get(Storage)
    with tempfile.TemporaryDirectory(prefix="ballast-file-") as folder:
        source, target = Path(folder, "source"), Path(folder, "target")
        try:
            async for part in storage.get(file["key"], 0, file["size"]):
                await asyncio.to_thread(_append, source, part)
        except NotStored:
            return Judgement(FileState.LOST, key="")
        if signature := (await resources.get(Scanner).scan(_read(source))).signature:
            return Judgement(FileState.QUARANTINED, signature=signature)
        verdict = await inspect(source, file["kind"], target)
        if verdict.refused:
            return Judgement(FileState.REJECTED, finding=verdict.refused, key="")
        if not verdict.rewritten:
            return Judgement(FileState.CLEAN, active=verdict.active)
        key = beside(resources, file["key"], new_path(organization_id))
        return Judgement(FileState.CLEAN, key=key, size=await storage.put(key, _read(target)))


def _append(path: Path, part: bytes) -> None:
    with path.open("ab") as file:
        file.write(part)


async def _read(path: Path) -> AsyncIterator[bytes]:
    start = 0
    # Opened anew for each part: who stops half-way leaves no open file behind.
    while part := await asyncio.to_thread(_part, path, start):
        yield part
        start += len(part)


def _part(path: Path, start: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(1_048_576)
