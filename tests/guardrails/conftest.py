"""A database with throw-away tables, for tests that need models the service does not have."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from service.core.context import Resources
from tests.conftest import TEMPLATE, TestServers
from tests.guardrails.playground import Playground, create_tables, open_playground


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
