"""Who was erased, kept where no backup of the database reaches: a restore brings people back, this takes them away.

One small object per erasure, written before the tables are walked and never changed: a random id, and the keyed hash of
an address. It outlives the oldest backup (35 days) by far and then goes, too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import orjson

from service.core import clock
from service.core.context import Resources
from service.core.logging import get_logger
from service.guardrails.residency import Regions, at_home
from service.integrations.storage import Storage, Stored

log = get_logger()

PREFIX = "erasures"
KEPT = timedelta(days=100)


@dataclass(frozen=True, slots=True)
class Entry:
    request_id: UUID
    user_id: UUID
    address_hash: str
    """Hexadecimal; empty when nobody knew the address any more."""
    erased_at: datetime


async def write(resources: Resources, entry: Entry) -> None:
    """Twice writes the same again. Raises StorageAway."""

    async def parts() -> AsyncIterator[bytes]:
        kept = {"person": str(entry.user_id), "address": entry.address_hash, "at": entry.erased_at.isoformat()}
        yield orjson.dumps(kept)

    await resources.get(Storage).put(_key(resources, entry.request_id), parts())


async def known(resources: Resources) -> dict[UUID, Stored]:
    """Which erasures it knows, without reading any: they are thousands, asked for every hour. Raises StorageAway."""
    found = dict[UUID, Stored]()
    async for one in resources.get(Storage).walk(f"{PREFIX}/", only=resources.get(Regions).home):
        try:
            found[UUID(one.path.rpartition("/")[2])] = one
        except ValueError:
            log.warning("no entry of the ledger", file=one.key)
    return found


async def read(resources: Resources, wanted: Iterable[UUID]) -> list[Entry]:
    """What these say; one that cannot be read is logged, and keeps none of the others back. Raises StorageAway."""
    entries = []
    for identifier in wanted:
        key = _key(resources, identifier)
        content = b"".join([part async for part in resources.get(Storage).get(key)])
        try:
            told = orjson.loads(content)
            bytes.fromhex(told["address"])
            at = datetime.fromisoformat(told["at"])
            entries.append(Entry(identifier, UUID(told["person"]), told["address"], at))
        except (ValueError, KeyError, TypeError) as error:
            log.error("entry of the ledger not understood", file=key, error=type(error).__name__)
    return entries


def old(found: Mapping[UUID, Stored]) -> list[UUID]:
    """Those of these entries that outlived every backup."""
    before = clock.now() - KEPT
    return [identifier for identifier, one in found.items() if one.changed_at < before]


async def forget(resources: Resources, unneeded: Iterable[UUID]) -> None:
    for identifier in unneeded:
        await resources.get(Storage).delete(_key(resources, identifier))


def _key(resources: Resources, request_id: UUID) -> str:
    return at_home(resources, f"{PREFIX}/{request_id}")
