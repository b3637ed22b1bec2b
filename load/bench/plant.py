"""What the bench reads: an organization with 60 indicators, three of them with 10^3, 10^5 and up to 10^7 readings."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from pwdlib.hashers.argon2 import Argon2Hasher

from load.bench.world import World
from service.catalog import load_tables
from service.core import clock
from service.core.ids import new_id
from service.guardrails.api_keys import SHOWN, hash_of, mint

PASSWORD = "a passphrase for the bench"
EMAIL = "bench@example.com"
INDICATORS = 60


@dataclass
class Planted:
    organization: UUID
    user: UUID
    key: str
    sizes: dict[int, UUID] = field(default_factory=dict)
    statements: dict[str, str] = field(default_factory=dict)


async def plant(stage: World) -> Planted:
    """Fill the database as the superuser and note the service's own statements for the floor."""
    print(f"planting up to {stage.readings:,} readings ...", flush=True)
    db = await asyncpg.connect(stage.superuser_url)
    planted = Planted(organization := new_id(), new_id(), mint(organization))
    now = clock.now()
    hashed = await asyncio.to_thread(Argon2Hasher(time_cost=2, memory_cost=19_456, parallelism=1).hash, PASSWORD)
    await db.execute(
        "INSERT INTO organizations (id, name, created_at) VALUES ($1, 'Bench', $2)", planted.organization, now
    )
    await db.execute(
        "INSERT INTO users (id, email, name, password_hash, email_verified_at, created_at, last_organization_id)"
        " VALUES ($1, $2, 'Bench', $3, $4, $4, $5)", planted.user, EMAIL, hashed, now, planted.organization,
    )  # fmt: skip
    await db.execute(
        "INSERT INTO memberships (id, organization_id, user_id, role, created_at) VALUES ($1, $2, $3, 'owner', $4)",
        new_id(), planted.organization, planted.user, now,
    )  # fmt: skip
    await db.execute(
        "INSERT INTO api_keys (id, organization_id, name, role, scopes, prefix, secret_hash, created_at)"
        " VALUES ($1, $2, 'Bench', 'admin', '{indicators:read,indicators:write}', $3, $4, $5)",
        new_id(), organization, planted.key[:SHOWN], hash_of(planted.key), now,
    )  # fmt: skip
    for number in range(INDICATORS):
        identifier = new_id()
        await db.execute(
            "INSERT INTO indicators (id, organization_id, name, description, unit, created_at, changed_at)"
            " VALUES ($1, $2, $3, 'A number worth watching', 'EUR', $4, $4)",
            identifier, planted.organization, f"Indicator {number:03}", now,
        )  # fmt: skip
        size = {0: 1_000, 1: 100_000, 2: stage.readings}.get(number, 200)
        if number < 3:
            planted.sizes[size] = identifier
        await db.execute(
            "INSERT INTO readings (organization_id, indicator_id, at, value)"
            " SELECT $1, $2, $3::timestamptz - make_interval(secs => n * 30), 100 + 10 * sin(n / 50.0)"
            " FROM generate_series(1, $4::int) AS n",
            planted.organization, identifier, now, size, timeout=3600,
        )  # fmt: skip
    await db.execute(
        "INSERT INTO reading_hours (organization_id, indicator_id, hour, count, total, low, high)"
        " SELECT organization_id, indicator_id, date_trunc('hour', at, 'UTC'),"
        "  count(*), sum(value), min(value), max(value)"
        " FROM readings GROUP BY 1, 2, 3", timeout=3600,
    )  # fmt: skip
    await db.execute(
        "UPDATE indicators SET latest_at = $1, latest_value = 100 WHERE organization_id = $2", now, planted.organization
    )
    await db.execute("VACUUM (ANALYZE)", timeout=3600)
    await db.close()
    planted.statements = _statements()
    return planted


def _statements() -> dict[str, str]:
    """The service's SQL and the names of its parameters in order."""
    load_tables()
    from service.features.indicators import queries
    from service.features.indicators.models import Step

    prepared: dict[str, Any] = {
        "version": queries.VERSION,
        "tiles": queries.TILES,
        "one": queries.ONE,
        "list": queries.LIST.prepared(None, 50),
        "readings": queries.READINGS.prepared(None, 50),
        "buckets": queries.BUCKETS[Step.DAY],
    }
    texts = {name: statement.sql for name, statement in prepared.items()}
    for name, statement in prepared.items():
        texts[f"{name}:names"] = orjson.dumps(statement.parameters).decode()
        texts[f"{name}:constants"] = orjson.dumps(statement.constants).decode()
    return texts


async def page_buffers(stage: World, planted: Planted) -> dict[int, int]:
    """Buffers that one page of readings touches, per number of readings: the figure that no neighbour can disturb."""
    from service.features.indicators import queries

    statement = queries.READINGS.prepared(None, 50)
    db = await asyncpg.connect(stage.superuser_url)
    found = {}
    for size, identifier in planted.sizes.items():
        asked = {"indicator_id": identifier, "reach": timedelta(days=90)}
        sql, arguments = statement.bind(asked, tenant=planted.organization, user=None)
        for _ in range(2):
            plan = json.loads(await db.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", *arguments))
        top = plan[0]["Plan"]
        found[size] = top["Shared Hit Blocks"] + top["Shared Read Blocks"]
    await db.close()
    return found
