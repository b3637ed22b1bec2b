"""One organization with people in three roles, the three outside systems, and the worker that asks them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from infra.sandbox.mail import MailSink
from infra.sandbox.sources.faults import SourceKnobs
from service.core import clock
from service.guardrails.permissions import Role
from tests.conftest import Outside
from tests.support.client import Client
from tests.support.factories import Factory, Person
from tests.support.servers import RunningWorker


@dataclass
class Team:
    organization: UUID
    owner: Person
    admin: Client
    member: Client
    viewer: Client
    stranger: Client
    factory: Factory
    superuser: asyncpg.Connection[Any]
    mailbox: MailSink

    async def connect(self, kind: str, **fields: str) -> UUID:
        """Through the page, as a person would; the source's id."""
        answer = await self.admin.submit(f"/sources/new/{kind}", **fields)
        assert answer.status_code == 303, answer.text
        return UUID(answer.headers["location"].rsplit("/", 1)[1])

    async def plant(self, kind: str, target: str, config: dict[str, Any], *series: str) -> UUID:
        """A source that is due, with its indicators, without having asked anybody."""
        identifier = await self.factory.source(self.organization, kind, target, config, paused_at=None)
        for one in series:
            await self.factory.fed(self.organization, identifier, one, f"{target} {one}")
        return identifier

    async def source(self, identifier: UUID) -> asyncpg.Record:
        row = await self.superuser.fetchrow("SELECT * FROM sources WHERE id = $1", identifier)
        assert row is not None
        return row

    async def due(self, identifier: UUID) -> int:
        """Make it due, whatever it waits for; how many askings there were before."""
        await self.superuser.execute("UPDATE sources SET next_pull_at = $2 WHERE id = $1", identifier, clock.now())
        return await self.runs(identifier)

    async def runs(self, identifier: UUID) -> int:
        found: int = await self.superuser.fetchval("SELECT count(*) FROM source_runs WHERE source_id = $1", identifier)
        return found

    async def asked(self, identifier: UUID, earlier: int = 0) -> asyncpg.Record:
        """Wait for one more asking than `earlier`; that run."""
        until = time.monotonic() + 60
        while await self.runs(identifier) <= earlier:
            assert time.monotonic() < until, f"never asked: {dict(await self.source(identifier))}"
            await asyncio.sleep(0.05)
        run = await self.superuser.fetchrow(
            "SELECT * FROM source_runs WHERE source_id = $1 ORDER BY id DESC LIMIT 1", identifier
        )
        assert run is not None
        return run

    async def again(self, identifier: UUID) -> asyncpg.Record:
        return await self.asked(identifier, await self.due(identifier))

    async def another_round(self) -> None:
        """Wait until somebody else's source, which became due just now, was asked: what was due before was, too."""
        elsewhere = await self.factory.organization()
        source = await self.factory.source(elsewhere, paused_at=None)
        await self.factory.fed(elsewhere, source, "USD")
        await self.asked(source)

    async def readings(self, identifier: UUID, series: str) -> list[asyncpg.Record]:
        found: list[asyncpg.Record] = await self.superuser.fetch(
            "SELECT at, value FROM readings JOIN source_feeds USING (organization_id, indicator_id)"
            " WHERE source_id = $1 AND series = $2 ORDER BY at",
            identifier, series,
        )  # fmt: skip
        return found


@pytest.fixture(autouse=True)
def _healthy(outside: Outside) -> Iterator[None]:
    yield
    for one in (outside.rates, outside.github, outside.plausible):
        one.knobs = SourceKnobs()


@pytest.fixture
async def team(
    factory: Factory, superuser: asyncpg.Connection[Any], worker: RunningWorker, mailbox: MailSink
) -> AsyncIterator[Team]:
    organization = await factory.organization()
    await factory.plan(organization)
    owner = await factory.person(Role.OWNER, organization)
    roles = (Role.ADMIN, Role.MEMBER, Role.VIEWER)
    people = [await factory.person(role, organization) for role in roles]
    async with AsyncExitStack() as stack:
        admin, member, viewer, stranger = [
            await stack.enter_async_context(await factory.client(person))
            for person in (*people, await factory.person(Role.OWNER))
        ]
        yield Team(organization, owner, admin, member, viewer, stranger, factory, superuser, mailbox)
    # Nothing of this test is asked while the next one counts what is asked.
    await superuser.execute("UPDATE sources SET paused_at = now() WHERE organization_id = $1", organization)
