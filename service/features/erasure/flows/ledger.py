"""Who was erased, kept where no backup of the database reaches: a restore brings people back, this takes them away.

One small object per erasure, written before the tables are walked and never changed: a random id, and the keyed hash of
an address. It outlives the oldest backup (35 days) by far and then goes, too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import orjson

from service.core import clock
from service.core.context import Resources
from service.guardrails.residency import at_home
from service.integrations.storage import Storage

PREFIX = "erasures"
KEPT = timedelta(days=100)


@dataclass(frozen=True, slots=True)
class Entry:
    request_id: UUID
    user_id: UUID
    address_hash: str
    """Hexadecimal; empty when nobody knew the address any more."""
    erased_at: datetime

    @property
    def path(self) -> str:
        return f"{PREFIX}/{self.request_id}"


async def write(resources: Resources, entry: Entry) -> None:
    """Twice writes the same again. Raises StorageAway."""

    async def parts() -> AsyncIterator[bytes]:
        kept = {"person": str(entry.user_id), "address": entry.address_hash, "at": entry.erased_at.isoformat()}
        yield orjson.dumps(kept)

    await resources.get(Storage).put(at_home(resources, entry.path), parts())


async def entries(resources: Resources) -> AsyncIterator[Entry]:
    """Every entry there is, in no order. Raises StorageAway."""
    storage = resources.get(Storage)
    async for found in storage.walk(f"{PREFIX}/"):
        told = orjson.loads(b"".join([part async for part in storage.get(found.key)]))
        identifier = UUID(found.key.rpartition("/")[2])
        yield Entry(identifier, UUID(told["person"]), told["address"], datetime.fromisoformat(told["at"]))


async def forget_old(resources: Resources) -> int:
    """Entries that outlived every backup; how many there were."""
    storage, before, gone = resources.get(Storage), clock.now() - KEPT, 0
    async for entry in entries(resources):
        if entry.erased_at < before:
            await storage.delete(at_home(resources, entry.path))
            gone += 1
    return gone
