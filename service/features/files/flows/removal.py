"""Away for good: what rows gave up, what no row knows, and what never came whole."""

from __future__ import annotations

from datetime import timedelta

from prometheus_client import Counter

from service.core import clock, telemetry
from service.core.context import Resources
from service.core.database import Database
from service.core.logging import get_logger
from service.features.files import actions
from service.features.files.flows.look import as_system
from service.guardrails.uploads.kept import PLACES, Place
from service.integrations.storage import NotStored, Storage, StorageAway, Stored

log = get_logger()
swept = Counter("files_swept_total", "Objects without a row that were removed", registry=telemetry.REGISTRY)

SETTLED = timedelta(days=1)
"""Younger objects may belong to an upload whose row is about to say so."""
LATER = timedelta(minutes=5)
BATCH = 200
SEEN = "UPDATE files SET checked_at = $2 WHERE id = ANY($1)"
HALF = "DELETE FROM files WHERE state IN ('receiving', 'abandoned') AND created_at < $1"
GIVEN_UP = "SELECT key FROM file_removals WHERE asked_at <= $1 ORDER BY asked_at LIMIT 100"
ASK_LATER = "UPDATE file_removals SET asked_at = $2 WHERE key = ANY($1)"
UNSEEN = """
    SELECT id, organization_id, key FROM files WHERE state = 'clean' AND checked_at < $1
    ORDER BY checked_at LIMIT $2
"""


async def remove_given_up(resources: Resources, maintenance: Database) -> int:
    """Objects whose rows are gone or have other bytes now, with all their versions; and uploads that never ended."""
    storage = resources.get(Storage)
    async with maintenance.unit_of_work() as work:
        await work.raw.execute(HALF, clock.now() - timedelta(hours=1))
        keys = [row["key"] for row in await work.raw.fetch(GIVEN_UP, clock.now())]
    done, refused = list[str](), list[str]()
    for key in keys:
        try:
            await storage.delete(key)
            done.append(key)
        except StorageAway as error:
            # A hundred that the store refuses for ever must not keep the others from going.
            log.warning("removal waits", error=str(error))
            refused.append(key)
    if keys:
        async with maintenance.unit_of_work() as work:
            await work.raw.execute("DELETE FROM file_removals WHERE key = ANY($1)", done)
            await work.raw.execute(ASK_LATER, refused, clock.now() + LATER)
    return len(done)


async def sweep(resources: Resources, maintenance: Database) -> None:
    """Objects that no row knows go; rows whose object is gone say so."""
    storage = resources.get(Storage)
    for place in PLACES.values():
        batch = list[Stored]()
        async for found in storage.walk(place.prefix):
            if place.ours.fullmatch(found.path) and found.changed_at < clock.now() - SETTLED:
                batch.append(found)
            if len(batch) == BATCH:
                await _remove_unknown(storage, maintenance, place, batch)
                batch.clear()
        await _remove_unknown(storage, maintenance, place, batch)
    async with maintenance.unit_of_work(read_only=True) as work:
        rows = await work.raw.fetch(UNSEEN, clock.now() - SETTLED, BATCH)
    for row in rows:
        try:
            await storage.size(row["key"])
        except NotStored:
            async with as_system(resources, row["organization_id"]) as ctx:
                await actions.lose_file(ctx, row["id"])
            log.error("file lost", file=str(row["id"]))
        except StorageAway as error:
            log.warning("file not seen", file=str(row["id"]), error=str(error))
        else:
            async with resources.database.unit_of_work(tenant=row["organization_id"]) as work:
                await work.raw.execute(SEEN, [row["id"]], clock.now())


async def _remove_unknown(storage: Storage, maintenance: Database, place: Place, batch: list[Stored]) -> None:
    async with maintenance.unit_of_work(read_only=True) as work:
        # By the path alone, too: what was stored before there were regions is known by that.
        keys = [name for found in batch for name in (found.key, found.path)]
        known = {row["key"] for row in await work.raw.fetch(place.known, keys)}
    for key in {found.key for found in batch if not known & {found.key, found.path}}:
        try:
            await storage.delete(key)
        except StorageAway as error:
            log.warning("sweep leaves an object", error=str(error))
            continue
        swept.inc()
