"""Somebody who asks for copies, and what their archives hold."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from service.core.context import Resources
from service.core.database import Database
from service.features.privacy.flows.make import make_next
from service.guardrails.permissions import Role
from tests.support.client import Client
from tests.support.factories import Factory, Person


@dataclass
class Desk:
    """An owner and what they ask for; workers of the test's own make it."""

    factory: Factory
    resources: Resources
    maintenance: Database
    owner: Person
    browser: Client

    @property
    def db(self) -> asyncpg.Connection[Any]:
        return self.factory.superuser

    @property
    def organization(self) -> UUID:
        assert self.owner.organization_id is not None
        return self.owner.organization_id

    async def ask(self, where: str = "/privacy/exports", page: str = "/privacy") -> UUID:
        answer = await self.browser.submit(where, page=page)
        assert answer.status_code == 303, answer.text[:2000]
        newest = "SELECT id FROM data_exports WHERE user_id = $1 ORDER BY asked_at DESC LIMIT 1"
        found: UUID = await self.db.fetchval(newest, self.owner.id)
        return found

    async def row(self, export: UUID) -> asyncpg.Record:
        row = await self.db.fetchrow("SELECT * FROM data_exports WHERE id = $1", export)
        assert row is not None
        return row

    async def made(self, export: UUID) -> asyncpg.Record:
        """Whoever makes it: a worker of another test may be faster."""
        for _ in range(600):
            await make_next(self.resources, self.maintenance)
            row = await self.row(export)
            if row["state"] in ("ready", "failed"):
                return row
            await self.db.execute(
                "UPDATE data_exports SET leased_until = now() WHERE id = $1 AND claim IS NULL", export
            )
            await asyncio.sleep(0.05)
        raise AssertionError(f"never made: {dict(row)}")

    async def fetch(self, export: UUID, browser: Client | None = None) -> zipfile.ZipFile:
        answer = await (browser or self.browser).get(f"/downloads/exports/{export}")
        assert answer.status_code == 200, answer.text[:1000]
        assert answer.headers["content-type"] == "application/zip"
        assert "no-store" in answer.headers["cache-control"]
        return zipfile.ZipFile(io.BytesIO(answer.content))

    async def copy(self) -> dict[str, Any]:
        """A personal copy, by file: parsed where it is JSON."""
        export = await self.ask()
        row = await self.made(export)
        assert row["state"] == "ready", dict(row)
        return opened(await self.fetch(export))


def opened(archive: zipfile.ZipFile) -> dict[str, Any]:
    assert archive.testzip() is None
    found: dict[str, Any] = {}
    for name in archive.namelist():
        text = archive.read(name)
        if name.endswith(".json"):
            found[name] = json.loads(text)
        elif name.endswith(".jsonl"):
            found[name] = [json.loads(line) for line in text.splitlines()]
        else:
            found[name] = text
    return found


@pytest.fixture
async def desk(factory: Factory, resources: Resources, maintenance: Database) -> AsyncIterator[Desk]:
    owner = await factory.person(Role.OWNER)
    async with await factory.client(owner) as browser:
        yield Desk(factory, resources, maintenance, owner, browser)
