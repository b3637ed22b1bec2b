"""Signs the log in segments, behind the transaction horizon, so that no row that commits late is ever left out."""

from __future__ import annotations

import hmac
import struct
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from service.core import clock
from service.core.crypto import derive_key
from service.core.database import Database
from service.core.logging import get_logger
from service.core.settings import Settings
from service.guardrails.audit.log import CLUSTER

log = get_logger()
LOCK = 7_205_760
MOST_ROWS = 1_000
MEMBER = struct.Struct(">16sq32s")
SIGNED = ("number", "sealed_at", "cluster", "last_txid", "last_id", "row_count", "root", "previous_seal")

# A transaction number says when a transaction began, not when it committed. Only below the oldest one still running
# can nothing more appear; a cursor on the id alone lost 41 of 24,176 rows under load.
UNSEALED = f"""
    SELECT id, txid, row_hash, at FROM audit_log WHERE cluster = $1 AND (txid, id) > ($2, $3)
      AND (cluster <> {CLUSTER} OR txid < (pg_snapshot_xmin(pg_current_snapshot())::text)::bigint)
    ORDER BY txid, id LIMIT $4
"""  # noqa: S608 - constant
NEXT_CLUSTER = "SELECT min(cluster) FROM audit_log WHERE cluster > $1"
POSITION = (
    "SELECT last_txid, last_id FROM audit_segments WHERE cluster = $1 ORDER BY last_txid DESC, number DESC LIMIT 1"
)
OLDEST = (
    "SELECT min(at) FROM (SELECT at FROM audit_log WHERE cluster = $1 AND (txid, id) > ($2, $3) LIMIT 1000) AS waiting"
)


async def seal(maintenance: Database, settings: Settings) -> int:
    """Seal all that is final; how many rows. One sealer works at a time, a second one finds nothing to do."""
    total = 0
    while sealed := await _seal_segment(maintenance, settings):
        total += sealed
    return total


async def seal_lag(raw: asyncpg.Connection[Any]) -> float:
    """Seconds since the oldest row that is not sealed was written; 0 when all are."""
    oldest = [await raw.fetchval(OLDEST, *place) async for place in _places(raw)]
    return max((float((clock.now() - at).total_seconds()) for at in oldest if at), default=0.0)


async def _seal_segment(maintenance: Database, settings: Settings) -> int:
    async with maintenance.unit_of_work() as work:
        raw = work.raw
        if not await raw.fetchval("SELECT pg_try_advisory_xact_lock($1)", LOCK):
            return 0
        async for cluster, txid, identifier in _places(raw):
            if rows := await raw.fetch(UNSEALED, cluster, txid, identifier, MOST_ROWS):
                break
        else:
            return 0
        last = await raw.fetchrow("SELECT number, seal FROM audit_segments ORDER BY number DESC LIMIT 1")
        members = b"".join(MEMBER.pack(row["id"].bytes, row["txid"], row["row_hash"]) for row in rows)
        segment = {
            "number": last["number"] + 1 if last else 1,
            "sealed_at": clock.now(),
            "cluster": cluster,
            "last_txid": rows[-1]["txid"],
            "last_id": rows[-1]["id"],
            "row_count": len(rows),
            "root": merkle_root(members),
            "previous_seal": last["seal"] if last else b"",
        }
        signature = sign(segment, settings)
        await raw.execute(
            f"INSERT INTO audit_segments ({', '.join(SIGNED)}, seal, members) "  # noqa: S608 - constant names
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            *(segment[name] for name in SIGNED), signature, members,
        )  # fmt: skip
    # The log is shipped to another system: these lines are the anchors that `audit verify` compares with.
    log.info("audit.sealed", number=segment["number"], rows=len(rows), seal=signature.hex())
    return len(rows)


async def _places(raw: asyncpg.Connection[Any]) -> AsyncIterator[tuple[int, int, UUID]]:
    """Each cluster the rows come from (more than one only after a restore), and how far it is sealed."""
    cluster = await raw.fetchval(NEXT_CLUSTER, 0)
    while cluster is not None:
        place = await raw.fetchrow(POSITION, cluster)
        yield (cluster, place["last_txid"], place["last_id"]) if place else (cluster, 0, UUID(int=0))
        cluster = await raw.fetchval(NEXT_CLUSTER, cluster)


def sign(segment: Any, settings: Settings) -> bytes:
    """HMAC-SHA256 over what a segment says and the one before it, by a key that only the worker has."""
    values = [segment[name].hex() if isinstance(segment[name], bytes) else segment[name] for name in SIGNED]
    key = derive_key(settings.audit_seal_key.get_secret_value(), "audit-seal")
    return hmac.digest(key, orjson.dumps(values, default=str), "sha256")


def merkle_root(members: bytes) -> bytes:
    """Merkle tree hash (RFC 6962 section 2.1) over the packed members."""
    size = MEMBER.size
    level = [sha256(b"\0" + members[start : start + size]).digest() for start in range(0, len(members), size)]
    while len(level) > 1:
        pairs = [sha256(b"\1" + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]
