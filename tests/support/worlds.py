"""A service apart from the other tests' one: a database, a web process and a worker of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import asyncpg
from pydantic import SecretStr

from infra.sandbox.ports import HOST, free_port
from service.app import close_resources, create_resources
from service.core.settings import Settings
from tests.conftest import TEMPLATE, TestServers
from tests.support.factories import Factory
from tests.support.servers import RunningServer, RunningWorker


@asynccontextmanager
async def own_world(
    servers: TestServers, settings: Settings, name: str, values: Mapping[str, object], threads: list[str] | None = None
) -> AsyncIterator[tuple[Settings, Factory]]:
    """`values` are the settings that differ; `threads` name the web process and the worker, for a recorder."""
    servers.postgres.create_database(name, template=TEMPLATE)
    apart: dict[str, object] = {
        "base_url": f"http://{HOST}:{free_port()}",
        "database_url": SecretStr(servers.postgres.url("ballast_app", name)),
        "database_maintenance_url": SecretStr(servers.postgres.url("ballast_maintenance", name)),
        "redis_namespace": name,
    }
    made = settings.model_copy(update={**apart, **values})
    superuser = await asyncpg.connect(servers.postgres.url("postgres", name))
    resources = create_resources(made)
    web, worker = RunningServer(made), RunningWorker(made)
    if threads:
        web._thread.name, worker._thread.name = threads
    with web, worker:
        yield made, Factory(superuser, resources, made.base_url)
    await close_resources(resources)
    await superuser.close()
    servers.postgres.drop_database(name)
