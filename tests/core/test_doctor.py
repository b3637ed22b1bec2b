"""What the doctor finds wrong with a database, each on one that has just that fault."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from service.core.migrate import head
from service.core.settings import Settings
from service.doctor import CHECKS, Trouble, examine

pytest_plugins = ("tests.guardrails.durability",)


async def test_an_index_that_was_never_finished_is_named(
    own_settings: Settings, own_superuser: asyncpg.Connection[Any]
) -> None:
    """As a migration leaves it that PostgreSQL stopped half-way: it is kept up, and no query uses it."""
    assert await CHECKS["schema"](own_settings) == head()
    await own_superuser.execute("CREATE TABLE probe AS SELECT 1 AS n FROM generate_series(1, 2)")
    with pytest.raises(asyncpg.UniqueViolationError):
        await own_superuser.execute("CREATE UNIQUE INDEX CONCURRENTLY probe_once ON probe (n)")
    with pytest.raises(Trouble, match=r"REINDEX INDEX CONCURRENTLY probe_once$"):
        await CHECKS["schema"](own_settings)
    await own_superuser.execute("DELETE FROM probe")
    await own_superuser.execute("REINDEX INDEX CONCURRENTLY probe_once")
    assert await CHECKS["schema"](own_settings) == head(), "what it says to do mends it"
    await own_superuser.execute("DROP TABLE probe")


async def test_a_database_that_is_behind_is_named(
    own_settings: Settings, own_superuser: asyncpg.Connection[Any]
) -> None:
    await own_superuser.execute("UPDATE alembic_version SET version_num = 'earlier'")
    with pytest.raises(Trouble, match=f"database is at earlier, code at {head()}"):
        await CHECKS["schema"](own_settings)
    await own_superuser.execute("UPDATE alembic_version SET version_num = $1", head())


async def test_a_role_that_walks_through_the_walls_is_named(
    own_settings: Settings, servers: Any, own_database: str
) -> None:
    assert "cannot bypass" in await CHECKS["role"](own_settings)
    for role in ("postgres", "ballast_owner"):
        strong = own_settings.model_copy(update={"database_url": SecretStr(servers.postgres.url(role, own_database))})
        with pytest.raises(Trouble, match=f"{role} can bypass row-level security"):
            await CHECKS["role"](strong)


async def test_more_connections_than_there_are_is_named(own_settings: Settings) -> None:
    assert "available connections" in await CHECKS["connections"](own_settings)
    with pytest.raises(Trouble, match="lower DATABASE_POOL_SIZE"):
        await CHECKS["connections"](own_settings.model_copy(update={"database_processes": 10_000}))


async def test_one_that_cannot_be_asked_does_not_keep_the_others_from_answering(own_settings: Settings) -> None:
    nowhere = own_settings.model_copy(update={"database_url": SecretStr("postgresql://a-name:a-secret@127.0.0.1:9/x")})
    found = {finding.what: finding for finding in await examine(nowhere)}
    assert found.keys() == CHECKS.keys()
    assert not found["database"].ok
    assert found["redis"].ok
    assert not any("a-secret" in finding.detail for finding in found.values())
