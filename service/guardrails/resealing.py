"""Keys change while everything runs: what an older key sealed is sealed anew, in small rounds, under the newest.

Protects from: the encryption key that can never be replaced, and the one that is taken away while rows still need it.
How to use: add the new key behind the others in ENCRYPTION_KEYS everywhere, then move it to the front (a process that
does not know it yet could not read what another one seals). From then on what is written is under the new key, and a
job brings the rest over. `python -m service keys status` counts; a key that seals nothing may be taken out.

Each round locks its rows, passes over those that somebody else holds, and commits: a kill loses one round, the next
finds what is left by the index of `sealed.key_index`. Worker and web refuse to start without a key that rows need.

Limits: backups keep what old keys sealed, so keep those keys, away from the service, for as long as the backups. A
value that opens under no key is left as it is and named in the log. Web believes what a worker noted last.
"""

from __future__ import annotations

import time
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import asyncpg
from sqlalchemy import Column, Integer, MetaData, String
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock
from service.core.context import Context
from service.core.crypto import BadSignature, Keyring, keyring
from service.core.database import Base, Database
from service.core.logging import get_logger
from service.core.settings import InsecureSettings
from service.guardrails.jobs import periodic
from service.guardrails.personal_data import internal
from service.guardrails.retention import forever
from service.guardrails.sealed import KEY_BYTES, is_sealed, row_names, seal, sealed_columns, unseal

log = get_logger()
BATCH = 200
SECONDS = 20.0
MOST_UNREADABLE = 10_000
"""So many of one column are passed over in a run; what is behind still more of them waits until they are mended."""
PLAIN = 0
"""Stands for "no key": values from before their column was sealed."""


class EncryptionKey(Base):
    """What the worker found: which keys the rows need. Web compares it with its own keys before it starts."""

    __tablename__ = "encryption_keys"
    __retention__ = forever("one row per key in use, removed when nothing is under it any more")

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False, info=internal())
    fingerprint: Mapped[str] = mapped_column(String(16), info=internal())
    needed_by: Mapped[list[str]] = mapped_column(ARRAY(String(130)), info=internal())
    seen_at: Mapped[datetime] = mapped_column(info=internal())


class MissingKeys(InsecureSettings):
    """Rows are under keys that this process was not given; says which, never what."""


# Each step finds the next key in the index; how many rows there are does not matter.
KEYS_OF = """
    WITH RECURSIVE keys (key) AS (
        (SELECT substr({column}, 1, 2) FROM {table} WHERE {column} IS NOT NULL ORDER BY 1 LIMIT 1)
        UNION ALL
        SELECT (SELECT substr({column}, 1, 2) FROM {table} WHERE {column} IS NOT NULL
            AND substr({column}, 1, 2) > keys.key ORDER BY 1 LIMIT 1) FROM keys WHERE keys.key IS NOT NULL
    ) SELECT key FROM keys WHERE key IS NOT NULL
"""
COUNT = "SELECT substr({column}, 1, 2) AS key, count(*) AS rows FROM {table} WHERE {column} IS NOT NULL GROUP BY 1"
STALE = """
    SELECT ctid::text AS position, {names}, {column} AS value FROM {table}
    WHERE {column} IS NOT NULL AND substr({column}, 1, 2) = ANY($1) AND ctid <> ALL($2::text[]::tid[])
    LIMIT $3 FOR UPDATE SKIP LOCKED
"""
WRITE = "UPDATE {table} SET {column} = $1 WHERE {column} = $2 AND {which}"
NOTE = """
    INSERT INTO encryption_keys (id, fingerprint, needed_by, seen_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT (id) DO UPDATE SET needed_by = excluded.needed_by, seen_at = excluded.seen_at,
        fingerprint = coalesce(nullif(encryption_keys.fingerprint, ''), excluded.fingerprint)
    RETURNING fingerprint
"""


@periodic("*/10 * * * *", timeout=timedelta(minutes=2))
async def reseal_old_values(ctx: Context) -> None:
    await reseal(ctx.resources.as_maintenance)
    await note_keys(ctx.resources.as_maintenance)


async def reseal(
    maintenance: Database,
    *,
    metadata: MetaData = Base.metadata,
    ring: Keyring | None = None,
    batch: int = BATCH,
    seconds: float = SECONDS,
) -> Counter[str]:
    """Bring what other keys sealed under the newest, for at most so many seconds; how many values of which column."""
    until, ring = time.monotonic() + seconds, ring or keyring()
    done: Counter[str] = Counter()
    for column in sealed_columns(metadata):
        unreadable: list[str] = []
        while time.monotonic() < until and len(unreadable) < MOST_UNREADABLE:
            async with maintenance.unit_of_work() as work:
                looked_at, moved = await _round(work.raw, column, ring, batch, unreadable)
            done[str(column)] += moved
            if looked_at < batch:
                break
        if unreadable:
            log.error("sealed values open under no key", column=str(column), rows=len(unreadable))
    if told := {name: rows for name, rows in done.items() if rows}:
        log.info("resealed", under=ring.newest, rows=told)
    return +done


async def _round(
    raw: asyncpg.Connection[Any], column: Column[Any], ring: Keyring, batch: int, unreadable: list[str]
) -> tuple[int, int]:
    """Move one batch; how many rows were looked at, and moved. What cannot be opened is added to `unreadable`."""
    # What is under a key that we lack waits until that is back.
    old = [key for key in await _prefixes(raw, column) if _key_id(key) in {PLAIN, *ring.ids} - {ring.newest}]
    if not old:
        return 0, 0
    rows = await raw.fetch(_sql(STALE, column), old, unreadable, batch)
    fresh = []
    for row in rows:
        where = [row[name] for name in row_names(column)]
        try:
            plain = unseal(column, row["value"], *where, ring=ring)
        except BadSignature:
            unreadable.append(row["position"])
        else:
            fresh.append((seal(column, plain, *where, ring=ring), row["value"], *where))
    await raw.executemany(_sql(WRITE, column), fresh)
    return len(rows), len(fresh)


async def keys_in_use(raw: asyncpg.Connection[Any], metadata: MetaData = Base.metadata) -> dict[int, list[str]]:
    """The columns that need each key; as the maintenance role, which sees every organization."""
    found: dict[int, list[str]] = {}
    for column in sealed_columns(metadata):
        for key in await _prefixes(raw, column):
            names = found.setdefault(_key_id(key), [])
            if str(column) not in names:
                names.append(str(column))
    return found


async def count_values(raw: asyncpg.Connection[Any], metadata: MetaData = Base.metadata) -> dict[int, Counter[str]]:
    """How many values of which column each key has sealed; reads all of them, for whoever asks at a shell and waits."""
    await raw.execute("SET LOCAL statement_timeout = '10min'")
    found: dict[int, Counter[str]] = {}
    for column in sealed_columns(metadata):
        for row in await raw.fetch(_sql(COUNT, column)):
            found.setdefault(_key_id(row["key"]), Counter())[str(column)] += row["rows"]
    return found


async def note_keys(maintenance: Database, ring: Keyring | None = None) -> dict[int, list[str]]:
    """Write down which keys the rows need; raises MissingKeys when this process lacks one, or has another secret.

    The first who has a key says what it is: whoever mistyped it is refused, and does not lock the others out.
    """
    ring, now = ring or keyring(), clock.now()
    async with maintenance.unit_of_work() as work:
        needed = await keys_in_use(work.raw)
        needed.pop(PLAIN, None)
        noted = {
            key_id: (columns, await work.raw.fetchval(NOTE, key_id, ring.fingerprints.get(key_id, ""), columns, now))
            for key_id, columns in sorted(needed.items())
        }
        await work.raw.execute("DELETE FROM encryption_keys WHERE NOT id = ANY($1)", list(needed))
    refuse_missing(noted, ring)
    return needed


async def compare_with_noted(raw: asyncpg.Connection[Any], ring: Keyring | None = None) -> None:
    """For processes that do not see every row: raises MissingKeys as the last look of a worker would."""
    rows = await raw.fetch("SELECT id, needed_by, fingerprint FROM encryption_keys")
    refuse_missing({row["id"]: (row["needed_by"], row["fingerprint"]) for row in rows}, ring or keyring())


def refuse_missing(needed: dict[int, tuple[list[str], str]], ring: Keyring) -> None:
    """Raise MissingKeys unless every key is there, with the secret it had."""
    ours, problems = ring.fingerprints, []
    for key_id, (columns, fingerprint) in sorted(needed.items()):
        what = ", ".join(columns)
        if key_id not in ours:
            problems.append(f"ENCRYPTION_KEYS lacks key {key_id}, which {what} still needs: put it back, at the end")
        elif fingerprint not in ("", ours[key_id]):
            problems.append(f"key {key_id} in ENCRYPTION_KEYS is not the one that sealed {what}: restore its secret")
    if problems:
        raise MissingKeys("; ".join(problems) + ". `python -m service keys status` counts what each key has sealed.")


async def _prefixes(raw: asyncpg.Connection[Any], column: Column[Any]) -> list[bytes]:
    return [row["key"] for row in await raw.fetch(_sql(KEYS_OF, column))]


def _key_id(prefix: bytes) -> int:
    return int.from_bytes(prefix[:KEY_BYTES], "big") if is_sealed(prefix) else PLAIN


def _sql(template: str, column: Column[Any]) -> str:
    names = row_names(column)
    return template.format(
        table=f'"{column.table.name}"',
        column=f'"{column.name}"',
        names=", ".join(f'"{name}"' for name in names),
        which=" AND ".join(f'"{name}" = ${number}' for number, name in enumerate(names, 3)),
    )
