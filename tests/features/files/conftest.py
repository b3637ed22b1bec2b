"""A store and a scanner that are well, and somebody who sends files over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from infra.sandbox.clamd import Clamd, ClamdKnobs
from service.core import clock
from service.core.context import Resources
from service.core.database import Database
from service.features.files.flows.look import judge_due
from service.guardrails.permissions import Role
from service.integrations.scanner import Scanner
from tests.support.client import Client
from tests.support.factories import Factory

Send = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
async def member(factory: Factory) -> AsyncIterator[Client]:
    async with await factory.client(await factory.person(Role.MEMBER)) as client:
        yield client


@pytest.fixture(autouse=True)
def well(clamd: Clamd, resources: Resources) -> Iterator[None]:
    """The scanner answers, and nobody remembers that it once did not."""
    yield
    clamd.knobs = ClamdKnobs()
    resources.provide(Scanner, Scanner(resources.settings))


@pytest.fixture
def look(resources: Resources, maintenance: Database, factory: Factory) -> Callable[[], Awaitable[None]]:
    """A round of the worker; where another test's worker was faster, its round."""

    async def one_round() -> None:
        await judge_due(resources, maintenance)
        leased = "SELECT count(*) FROM files WHERE state = 'pending' AND next_look_at > $1"
        for _ in range(400):
            if not await factory.superuser.fetchval(leased, clock.now() + timedelta(seconds=60)):
                return
            await asyncio.sleep(0.05)

    return one_round


async def send(client: Client, name: str, content: bytes, *, csrf: str | None = None) -> httpx.Response:
    """As the page's form does without scripts: the token first, then the file."""
    fields = {"csrf": client.csrf if csrf is None else csrf}
    return await client.http.post(
        "/files", data=fields, files={"file": (name, content)}, headers={"origin": client.origin}
    )


async def only_file(factory: Factory) -> Any:
    """The row of the newest file of anybody: tests send one at a time."""
    return await factory.superuser.fetchrow("SELECT * FROM files ORDER BY id DESC LIMIT 1")


async def state_of(factory: Factory, file_id: UUID) -> str:
    return str(await factory.superuser.fetchval("SELECT state FROM files WHERE id = $1", file_id))
