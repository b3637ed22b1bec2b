"""Away for good: what rows gave up, what no row knows, and what never came whole."""

from __future__ import annotations

import re
from datetime import timedelta

from prometheus_client import Counter

from service.core import clock, telemetry
from service.core.context import Resources
from service.core.database import Database
from service.core.logging import get_logger
from service.features.files import actions
from service.features.files.flows.look import as_system
from service.integrations.storage import NotStored, Storage, StorageAway

log = get_logger()
swept = Counter("files_swept_total", "Objects without a row that were removed", registry=telemetry.REGISTRY)

SETTLED = timedelta(days=1)
"""Younger objects may belong to an upload whose row is about to say so."""
OURS = re.compile(r"^t/[0-9a-f-]{36}/[0-9a-f]{32}$")
BATCH = 200
SEEN = "UPDATE files SET checked_at = $2 WHERE id = ANY($1)"
HALF = "DELETE FROM files WHERE state IN ('receiving', 'abandoned') AND created_at < $1"
KNOWN = "SELECT key FROM files WHERE key = ANY($1)"
UNSEEN = """
    SELECT id, organization_id, key FROM files WHERE state = 'clean' AND checked_at < $1
    ORDER BY checked_at LIMIT $2
"""


async def remove_given_up(resources: Resources, maintenance: Database) -> int:
    """Objects whose rows are gone or have other bytes now, with all their versions; and uploads that never ended."""
    storage = resources.get(Storage)
    async with maintenance.unit_of_work() as work:
        await work.raw.execute(HALF, clock.now() - timedelta(hours=1))
        keys = [row["key"] for row in await work.raw.fetch("SELECT key FROM file_removals ORDER BY asked_at LIMIT 100")]
    done: list[str] = []
    for key in keys:
        try:
            await storage.delete(key)
            done.append(key)
        except StorageAway as error:
            # One that the store refuses for ever must not keep the others from going.
            log.warning("removal waits", error=str(error))
    if done:
        async with maintenance.unit_of_work() as work:
            await work.raw.execute("DELETE FROM file_removals WHERE key = ANY($1)", done)
    return len(done)


async def sweep(resources: Resources, maintenance: Database) -> None:
    """Objects that no row knows go; rows whose object is gone say so."""
    storage, batch = resources.get(Storage), list[str]()
    async for found in storage.walk("t"):
        if OURS.match(found.key) and found.changed_at < clock.now() - SETTLED:
            batch.append(found.key)
        if len(batch) == BATCH:
            await _remove_unknown(storage, maintenance, batch)
            batch.clear()
    await _remove_unknown(storage, maintenance, batch)
    async with maintenance.unit_of_work(read_only=True) as work:
        rows = await work.raw.fetch(UNSEEN, clock.now() - SETTLED, BATCH)
    for row in rows:
        try:
            await storage.size(row["key"])
        except NotStored:
            async with as_system(resources, row["organization_id"]) as ctx:
                await actions.lose_file(ctx, row["id"])
            log.error("file lost", file=str(row["id"]))
        else:
            async with resources.database.unit_of_work(tenant=row["organization_id"]) as work:
                await work.raw.execute(SEEN, [row["id"]], clock.now())


async def _remove_unknown(storage: Storage, maintenance: Database, keys: list[str]) -> None:
    async with maintenance.unit_of_work(read_only=True) as work:
        known = {row["key"] for row in await work.raw.fetch(KNOWN, keys)}
    for key in set(keys) - known:
        await storage.delete(key)
        swept.inc()
