"""One transaction: it commits before the answer, leaves nothing behind, and a failed action is really undone."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import anyio
import asyncpg
import pytest
from sqlalchemy import select, text

from service.core import telemetry
from service.core.context import Resources
from service.core.database import Database, split_tls
from service.core.errors import Unavailable
from service.core.settings import Settings
from service.core.statements import PreparedText
from service.features.organizations.models import Organization

INSERT = PreparedText("INSERT INTO organizations (id, name, created_at) VALUES (:context_tenant, :name, now())")
COUNT = PreparedText("SELECT count(*) AS n FROM organizations WHERE id = :context_tenant")


async def stored(superuser: asyncpg.Connection[Any], organization: object) -> bool:
    return bool(await superuser.fetchval("SELECT count(*) FROM organizations WHERE id = $1", organization))


async def test_both_ways_to_read_share_one_transaction(database: Database, superuser: asyncpg.Connection[Any]) -> None:
    tenant = uuid4()
    async with database.unit_of_work(tenant=tenant) as work:
        work.session.add(Organization(id=tenant, name="Via the ORM"))
        row = await work.fetch_one(COUNT)
        assert row is not None
        assert row["n"] == 1
        assert not await stored(superuser, tenant)
    assert await stored(superuser, tenant)


async def test_an_error_leaves_nothing(database: Database, superuser: asyncpg.Connection[Any]) -> None:
    tenant = uuid4()
    with pytest.raises(RuntimeError):
        async with database.unit_of_work(tenant=tenant) as work:
            await work.fetch(INSERT, name="never")
            raise RuntimeError("after the write")
    assert not await stored(superuser, tenant)


async def test_abandoning_undoes_and_goes_on_reading(database: Database, superuser: asyncpg.Connection[Any]) -> None:
    """A route that catches an action's error and answers 422 must not commit the half that was done."""
    tenant = uuid4()
    async with database.unit_of_work(tenant=tenant) as work:
        await work.fetch(INSERT, name="half")
        await work.abandon()
        row = await work.fetch_one(COUNT)
        assert row is not None
        assert row["n"] == 0
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await work.fetch(INSERT, name="again")
        await work.abandon()
    assert not await stored(superuser, tenant)


async def test_a_read_only_unit_cannot_write(database: Database) -> None:
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        async with database.unit_of_work(tenant=uuid4(), read_only=True) as work:
            await work.fetch(INSERT, name="by GET")


async def test_a_cancelled_unit_gives_back_a_clean_connection(
    resources: Resources, superuser: asyncpg.Connection[Any]
) -> None:
    """A client that hangs up in the middle must not leave its transaction to the next user of the connection."""
    pool = Database(resources.settings.database_url.get_secret_value(), resources.settings, name="cancelled", size=1)

    async def slow() -> None:
        async with pool.unit_of_work(tenant=uuid4()) as work:
            await work.raw.execute("SELECT pg_sleep(120)")

    sleeps = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND state = 'active' AND query = 'SELECT pg_sleep(120)'"
    )
    task = asyncio.create_task(slow())
    async with asyncio.timeout(60):
        while not await superuser.fetchval(sleeps):
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with pool.unit_of_work() as work:
        assert await work.raw.fetchval("SELECT current_setting('app.tenant', true)") == ""
    await pool.dispose()


async def test_a_unit_that_is_cancelled_at_every_step_gives_back_a_clean_connection(settings: Settings) -> None:
    """Streaming answers are cancelled so: each await of the clean-up is cancelled again, the ROLLBACK's as well."""
    pool = Database(settings.database_url.get_secret_value(), settings, name="hung_up", size=1)
    with anyio.CancelScope() as scope:
        async with pool.unit_of_work(tenant=uuid4()) as work:
            asyncio.get_running_loop().call_later(0.1, scope.cancel)
            await work.raw.execute("SELECT pg_sleep(120)")
    assert scope.cancelled_caught
    for _ in range(2):
        async with pool.unit_of_work() as work:
            assert await work.raw.fetchval("SELECT current_setting('app.tenant', true)") == ""
    await pool.dispose()


async def test_the_pool_tells_how_busy_it_is(settings: Settings) -> None:
    """In use and waiting while it lasts, and how long the wait was: what the alert on a pool that runs dry asks for."""
    pool = Database(settings.database_url.get_secret_value(), settings, name="metered", size=1)

    def measured(name: str) -> float:
        return telemetry.REGISTRY.get_sample_value(name, {"pool": "metered"}) or 0.0

    async def wait() -> None:
        async with pool.connection():
            assert (measured("db_pool_in_use"), measured("db_pool_waiting")) == (1, 0)

    async with pool.connection():
        waiting = asyncio.create_task(wait())
        async with asyncio.timeout(60):
            while measured("db_pool_waiting") < 1:
                await asyncio.sleep(0.01)
        assert measured("db_pool_in_use") == 1
        assert measured("db_pool_wait_seconds_count") == 1
        waited = measured("db_pool_wait_seconds_sum")
        await asyncio.sleep(0.2)
    await waiting
    assert (measured("db_pool_in_use"), measured("db_pool_waiting")) == (0, 0)
    assert measured("db_pool_wait_seconds_count") == 2
    assert measured("db_pool_wait_seconds_sum") - waited > 0.19
    await pool.dispose()


async def test_an_exhausted_pool_answers_unavailable(settings: Settings) -> None:
    small = settings.model_copy(update={"database_pool_timeout_seconds": 0.1})
    pool = Database(settings.database_url.get_secret_value(), small, name="small", size=1)
    async with pool.connection():
        with pytest.raises(Unavailable, match="busy"):
            async with pool.connection():
                pass
    async with pool.connection():
        pass
    await pool.dispose()


async def test_an_unreachable_database_answers_unavailable(settings: Settings) -> None:
    nowhere = Database("postgresql://ballast_app:x@127.0.0.1:9/none", settings, name="nowhere", size=1)
    with pytest.raises(Unavailable, match="reached"):
        async with nowhere.connection():
            pass
    await nowhere.dispose()


@pytest.mark.parametrize("name", ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"])
async def test_every_connection_has_its_timeouts(name: str, database: Database) -> None:
    async with database.unit_of_work() as work:
        assert await work.raw.fetchval(f"SHOW {name}") not in ("0", "")


async def test_an_orm_statement_outside_a_tenant_sees_nothing(
    database: Database, superuser: asyncpg.Connection[Any]
) -> None:
    tenant = uuid4()
    async with database.unit_of_work(tenant=tenant) as work:
        work.session.add(Organization(id=tenant, name="Hidden"))
    assert await stored(superuser, tenant)
    async with database.unit_of_work() as work:
        assert (await work.session.scalars(select(Organization).where(Organization.id == tenant))).all() == []
        counted = text("SELECT count(*) FROM organizations WHERE id = :id").bindparams(id=tenant)
        assert (await work.session.execute(counted)).scalar_one() == 0


def test_tls_is_passed_to_the_driver() -> None:
    url, tls = split_tls("postgresql://u:p@h:1/d?sslmode=verify-full&application_name=x")
    assert (url, tls) == ("postgresql+asyncpg://u:p@h:1/d?application_name=x", "verify-full")
