"""The driver's own pool keeps the promises of the other: nobody waits for long, nobody inherits a dead connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from service.core import telemetry
from service.core.database import LOST
from service.core.errors import Unavailable
from service.core.pools import DriverPool
from service.core.settings import Settings


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[DriverPool]:
    # It limits connecting, too: no shorter than a busy machine takes for that.
    hasty = settings.model_copy(update={"database_pool_timeout_seconds": 2})
    made = DriverPool(settings.database_url.get_secret_value(), hasty, name="single", size=1)
    yield made
    await made.dispose()


def measured(name: str) -> float:
    return telemetry.REGISTRY.get_sample_value(name, {"pool": "single"}) or 0


async def test_an_exhausted_pool_answers_unavailable(pool: DriverPool) -> None:
    before = measured("db_pool_timeouts_total")
    async with pool.connection():
        assert measured("db_pool_in_use") == 1
        with pytest.raises(Unavailable, match="busy"):
            async with pool.connection():
                pass
    async with pool.connection() as connection:
        assert await connection.fetchval("SELECT 1") == 1
    assert measured("db_pool_timeouts_total") == before + 1
    assert (measured("db_pool_in_use"), measured("db_pool_waiting")) == (0, 0)


async def test_an_unreachable_database_answers_unavailable(settings: Settings) -> None:
    nowhere = DriverPool("postgresql://ballast_app:x@127.0.0.1:9/none", settings, name="nowhere", size=1)
    with pytest.raises(Unavailable, match="reached"):
        async with nowhere.connection():
            pass


async def test_a_connection_that_was_cut_is_not_lent_again(
    pool: DriverPool, superuser: asyncpg.Connection[Any]
) -> None:
    """A failover in the middle of a statement: who asks next gets a new one."""
    async with pool.connection() as connection:
        first = await connection.fetchval("SELECT pg_backend_pid()")
        await superuser.execute("SELECT pg_terminate_backend($1)", first)
        with pytest.raises(LOST):
            await connection.fetchval("SELECT pg_sleep(5)")
    async with pool.connection() as connection:
        assert await connection.fetchval("SELECT pg_backend_pid()") != first


async def test_it_bears_its_name_and_the_limits_of_statements(pool: DriverPool) -> None:
    async with pool.connection() as connection:
        told = [await connection.fetchval(f"SHOW {name}") for name in ("application_name", "lock_timeout")]
        again = connection.get_server_pid()
    async with pool.connection() as connection:
        assert connection.get_server_pid() == again
    assert told == ["ballast-single", "2s"]
