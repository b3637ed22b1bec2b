"""A database with throw-away tables, for models the service does not have; and a Redis that a test file may lose."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from infra.sandbox.redis import EmbeddedRedis
from service.core import clock
from service.core.context import Resources
from service.guardrails.permissions import Role
from tests.conftest import TEMPLATE, TestServers
from tests.guardrails.instances import instance
from tests.guardrails.playground import Playground, create_tables, open_playground
from tests.support.client import Client
from tests.support.factories import Factory, Person


@pytest.fixture(scope="session")
async def playground(servers: TestServers, worker_name: str, resources: Resources) -> AsyncIterator[Playground]:
    name = f"playground_{worker_name}"
    servers.postgres.create_database(name, template=TEMPLATE)
    roles = ("postgres", "ballast_owner", "ballast_app", "ballast_maintenance")
    urls = {role: servers.postgres.url(role, name) for role in roles}
    await create_tables(urls["ballast_owner"])
    made = await open_playground(urls, resources)
    yield made
    await made.superuser.close()
    await made.resources.database.dispose()
    if made.resources.maintenance is not None:
        await made.resources.maintenance.dispose()
    servers.postgres.drop_database(name)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis"), durable=False) as server:
        yield server


@pytest.fixture
async def here(redis: EmbeddedRedis) -> AsyncIterator[Resources]:
    """One process of the service, on that Redis."""
    async with instance(redis) as resources:
        yield resources
    clock.reset()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
async def owner(factory: Factory) -> Person:
    return await factory.person(Role.OWNER)


@pytest.fixture
async def browser(factory: Factory, owner: Person, stack: AsyncExitStack) -> Client:
    return await stack.enter_async_context(await factory.client(owner))
