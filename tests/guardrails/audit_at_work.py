"""Rows in the audit log, and the hand of somebody who owns the whole server: for the tests of the log."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg

from service.core.context import Actor, ActorKind
from service.core.database import Database
from service.core.ids import new_id
from service.core.settings import Settings
from service.guardrails import audit

if TYPE_CHECKING:
    from tests.guardrails.durability import Acting

ADA = Actor(ActorKind.USER, new_id())


async def as_attacker(superuser: asyncpg.Connection[Any], *statements: str) -> None:
    """What only somebody who owns the whole server can do: take the triggers off, change, put them back on."""
    tables = ("audit_log", "audit_segments")
    async with superuser.transaction():
        for table in tables:
            await superuser.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
        for statement in statements:
            await superuser.execute(statement)
        for table in tables:
            await superuser.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_append_only")
        await superuser.execute("ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_kept")


async def newest(superuser: asyncpg.Connection[Any], count: int = 1) -> list[dict[str, Any]]:
    rows = await superuser.fetch("SELECT * FROM audit_log ORDER BY txid DESC, id DESC LIMIT $1", count)
    return [dict(row) | {name: json.loads(row[name]) for name in ("changes", "facts")} for row in reversed(rows)]


async def write(acting: Acting, count: int = 1, tenant: UUID | None = None) -> None:
    """`count` rows in as many transactions."""
    for number in range(count):
        async with acting(tenant=tenant, actor=ADA) as ctx:
            await audit.record(ctx, "things.touch", audit.Changes("things", new_id()), {"number": number})


async def rows_in_order(superuser: asyncpg.Connection[Any]) -> list[UUID]:
    return [row["id"] for row in await superuser.fetch("SELECT id FROM audit_log ORDER BY txid, id")]


async def seal_all(maintenance: Database, settings: Settings, superuser: asyncpg.Connection[Any]) -> None:
    """Seal every row there is; waits first, because a transaction in another database holds the horizon back too."""
    for _ in range(6_000):
        if await superuser.fetchval(
            "SELECT coalesce(max(txid) FILTER (WHERE cluster <> 77), 0)"
            " < (pg_snapshot_xmin(pg_current_snapshot())::text)::bigint FROM audit_log"
        ):
            await audit.seal(maintenance, settings)
            return
        await asyncio.sleep(0.01)
    raise AssertionError("some transaction holds the horizon back for a minute")
