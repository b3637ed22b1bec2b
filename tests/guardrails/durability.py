"""A database of its own for the guard rails that look at a whole table: no other test's rows, no running worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from pydantic import SecretStr

from service import worker
from service.core.context import ANONYMOUS, Actor, Caller, Context, Resources
from service.core.database import Database, UnitOfWork
from service.core.redis import create_redis
from service.core.settings import Settings
from service.guardrails import audit
from service.guardrails.jobs.registry import JOBS, SUBSCRIBERS
from tests.guardrails.audit_at_work import as_attacker

Acting = Callable[..., AbstractAsyncContextManager[Context]]


@pytest.fixture(scope="module")
def own_database(servers: Any, worker_name: str, settings: Settings) -> Iterator[str]:
    name = f"ballast_own_{worker_name}"
    servers.postgres.create_database(name, template="ballast_template")
    yield name
    servers.postgres.drop_database(name)


@pytest.fixture(scope="module")
def own_settings(servers: Any, own_database: str, settings: Settings) -> Settings:
    def address(role: str) -> SecretStr:
        return SecretStr(servers.postgres.url(role, own_database))

    return settings.model_copy(
        update={
            "database_url": address("ballast_app"),
            "database_owner_url": address("ballast_owner"),
            "database_maintenance_url": address("ballast_maintenance"),
            "graceful_timeout_seconds": 4,
        }
    )


@pytest.fixture(scope="module")
async def own_superuser(servers: Any, own_database: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(servers.postgres.url("postgres", own_database))
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
async def own_maintenance(own_settings: Settings) -> AsyncIterator[Database]:
    url = own_settings.database_maintenance_url.get_secret_value()
    made = Database(url, own_settings, name="own-maintenance", size=2)
    yield made
    await made.dispose()


@pytest.fixture(scope="module")
async def own_resources(own_settings: Settings, own_maintenance: Database) -> AsyncIterator[Resources]:
    database = Database(own_settings.database_url.get_secret_value(), own_settings, name="own-app")
    made = Resources(own_settings, database, create_redis(own_settings), own_maintenance)
    yield made
    await database.dispose()
    await made.redis.aclose()


@pytest.fixture(scope="module")
def acting(own_resources: Resources) -> Acting:
    """`async with acting(tenant=..., actor=...) as ctx`: one unit of work, as a request has it, events included."""

    @asynccontextmanager
    async def act(
        *,
        tenant: UUID | None = None,
        actor: Actor = ANONYMOUS,
        request_id: str = "request-1",
        address: str = "",
        **more: Any,
    ) -> AsyncIterator[Context]:
        async with own_resources.database.connection() as connection:
            work = UnitOfWork(connection)
            ctx = Context(work, own_resources, actor, Caller(request_id, address), organization_id=tenant, **more)
            try:
                await work.begin(tenant=tenant, user=actor.id, read_only=False)
                yield ctx
                await work.commit()
            finally:
                await work.close()
                if ctx.security_events:
                    await audit.write_security_events(ctx)

    return act


@pytest.fixture
def no_other_jobs() -> Iterator[None]:
    """Jobs of one test are no jobs of the next, and none of the product's."""
    worker._load_jobs()  # or what a test imports for the first time would be forgotten with the test's own
    known, subscribed = dict(JOBS), dict(SUBSCRIBERS)
    JOBS.clear()
    yield
    for registry, before in ((JOBS, known), (SUBSCRIBERS, subscribed)):
        registry.clear()
        registry.update(before)  # type: ignore[arg-type]


@pytest.fixture
async def empty_queue(no_other_jobs: None, own_superuser: asyncpg.Connection[Any]) -> None:
    await own_superuser.execute(
        "TRUNCATE pgqueuer, pgqueuer_log, pgqueuer_schedules;"
        "CREATE TABLE IF NOT EXISTS effects (id bigserial, what text);"
        "TRUNCATE effects; GRANT ALL ON effects, effects_id_seq TO ballast_app, ballast_maintenance"
    )


@pytest.fixture
async def empty_log(own_superuser: asyncpg.Connection[Any]) -> AsyncIterator[None]:
    async def clear() -> None:
        await as_attacker(own_superuser, "TRUNCATE audit_log, audit_segments, audit_checks")

    await clear()
    yield
    await clear()
