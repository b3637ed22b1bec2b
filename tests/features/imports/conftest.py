"""An organization that imports: files are stored, begun and run without a browser; and people to look at its pages."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from service.core import clock
from service.core.context import Actor, ActorKind, Caller, Context, Resources
from service.core.database import Database
from service.features.imports.actions import begin_import, receive_import
from service.features.imports.flows.run import take_turn
from service.features.imports.flows.verdicts import hand_out
from service.features.imports.models import Mode, State
from service.features.imports.schemas import ImportForm
from service.guardrails.permissions import Role
from service.integrations.storage import Storage
from tests.support.client import Client
from tests.support.factories import Factory, Person


@dataclass
class Office:
    """An organization that imports; what it asks for is done by workers of the test's own."""

    organization: UUID
    factory: Factory
    resources: Resources
    maintenance: Database
    person: Person

    @property
    def db(self) -> asyncpg.Connection[Any]:
        return self.factory.superuser

    async def indicator(self, name: str = "", **columns: Any) -> UUID:
        return await self.factory.indicator(self.organization, name, **columns)

    @asynccontextmanager
    async def acting(self) -> AsyncIterator[Context]:
        async with self.resources.database.unit_of_work(tenant=self.organization) as work:
            ctx = Context(work, self.resources, Actor(ActorKind.USER, self.person.id), Caller("test"))
            ctx.organization_id, ctx.role = self.organization, Role.MEMBER
            yield ctx

    async def begin(
        self, content: str | bytes, indicator: UUID | None = None, *, held: bool = False, **given: Any
    ) -> UUID:
        """As the page does it, but for the upload; `held` from its first moment by a worker that never goes on."""
        data = content if isinstance(content, bytes) else content.encode()

        async def parts() -> AsyncIterator[bytes]:
            yield data

        async with self.acting() as ctx:
            begun = await begin_import(ctx, ImportForm(indicator=indicator, **given), "readings.csv")
            assert begun.object_key is not None
            size = await self.resources.get(Storage).put(begun.object_key, parts())
            received = await receive_import(ctx, begun.id, size)
            received.leased_until = clock.now() + timedelta(hours=1) if held else None
        return begun.id

    async def run(self, import_id: UUID) -> asyncpg.Record:
        """Take turns until it has ended and its file is gone."""
        while (row := await self.row(import_id))["object_key"] is not None:
            await self.expire(import_id)
            await take_turn(self.resources, self.maintenance)
        return row

    async def row(self, import_id: UUID) -> asyncpg.Record:
        row = await self.db.fetchrow("SELECT * FROM imports WHERE id = $1", import_id)
        assert row is not None
        return row

    async def expire(self, import_id: UUID) -> None:
        """Whoever had claimed it is taken to be dead, and a wait is over."""
        later = "UPDATE imports SET leased_until = now() - $2::interval WHERE id = $1"
        await self.db.execute(later, import_id, timedelta(seconds=1))

    async def imported(self, content: str | bytes, indicator: UUID | None = None, **given: Any) -> asyncpg.Record:
        given.setdefault("mode", Mode.GOOD)
        return await self.run(await self.begin(content, indicator, **given))

    async def verdicts(self, row: asyncpg.Record) -> dict[int, tuple[str, str]]:
        parts = hand_out(self.resources, self.organization, row["id"], State(row["state"]), row["added"])
        lines = list(csv.reader("".join([part async for part in parts]).splitlines()))
        assert lines.pop(0) == ["row", "verdict", "reason"]
        return {int(line): (verdict, reason) for line, verdict, reason in lines}

    async def paused_endpoint(self) -> UUID:
        """A webhook for readings, whose messages wait to be looked at."""
        made: UUID = await self.db.fetchval(
            "INSERT INTO webhook_endpoints (id, organization_id, url, description, event_types, ordered, state, reason,"
            " secret, created_at, failures) VALUES (gen_random_uuid(), $1, 'https://example.com', '',"
            " '{readings.added}', false, 'paused', '', '', now(), 0) RETURNING id",
            self.organization,
        )
        return made

    async def readings(self, indicator: UUID) -> list[tuple[str, float]]:
        found = await self.db.fetch("SELECT at, value FROM readings WHERE indicator_id = $1 ORDER BY at", indicator)
        return [(f"{row['at']:%Y-%m-%dT%H:%M}", row["value"]) for row in found]


async def open_office(factory: Factory, resources: Resources, maintenance: Database) -> Office:
    organization = await factory.organization()
    await factory.plan(organization)
    person = await factory.person(Role.MEMBER, organization)
    return Office(organization, factory, resources, maintenance, person)


@pytest.fixture
async def office(factory: Factory, resources: Resources, maintenance: Database) -> Office:
    return await open_office(factory, resources, maintenance)


@pytest.fixture
async def member(office: Office) -> AsyncIterator[Client]:
    async with await office.factory.client(office.person) as client:
        yield client


@pytest.fixture
async def viewer(office: Office) -> AsyncIterator[Client]:
    async with await office.factory.client(await office.factory.person(Role.VIEWER, office.organization)) as client:
        yield client


@pytest.fixture
async def stranger(factory: Factory) -> AsyncIterator[Client]:
    async with await factory.client(await factory.person(Role.OWNER)) as client:
        yield client
