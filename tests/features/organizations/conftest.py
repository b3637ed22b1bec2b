"""One organization with somebody in every role, and a stranger who owns another one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from service.guardrails.permissions import Role
from tests.support.client import Client
from tests.support.factories import Factory, Person


@dataclass
class Team:
    organization: UUID
    factory: Factory
    superuser: asyncpg.Connection[Any]
    stack: AsyncExitStack
    people: dict[str, Person] = field(default_factory=dict)

    owner: Client = field(init=False)
    admin: Client = field(init=False)
    member: Client = field(init=False)
    viewer: Client = field(init=False)
    stranger: Client = field(init=False)

    async def browser(self, person: Person | None) -> Client:
        """Another browser, closed with the test."""
        return await self.stack.enter_async_context(await self.factory.client(person))

    async def act(self, client: Client, path: str, **fields: str) -> httpx.Response:
        """Send a form without having seen it, as an attacker would; the session's own token is theirs to use."""
        return await client.post(path, csrf=client.csrf, **fields)

    async def membership(self, person: Person, organization: UUID | None = None) -> str:
        found = await self.superuser.fetchval(
            "SELECT id FROM memberships WHERE user_id = $1 AND organization_id = $2",
            person.id,
            organization or self.organization,
        )
        return str(found)

    async def role(self, person: Person) -> str | None:
        found: str | None = await self.superuser.fetchval(
            "SELECT role FROM memberships WHERE user_id = $1 AND organization_id = $2", person.id, self.organization
        )
        return found

    async def owners(self) -> int:
        found: int = await self.superuser.fetchval(
            "SELECT count(*) FROM memberships WHERE organization_id = $1 AND role = 'owner'", self.organization
        )
        return found

    async def living_owners(self) -> int:
        found: int = await self.superuser.fetchval(
            "SELECT count(*) FROM memberships JOIN users ON users.id = user_id"
            " WHERE organization_id = $1 AND role = 'owner' AND users.deleted_at IS NULL",
            self.organization,
        )
        return found

    async def invitation(self, email: str) -> asyncpg.Record:
        found = await self.superuser.fetchrow(
            "SELECT * FROM invitations WHERE organization_id = $1 AND email = $2 ORDER BY id DESC LIMIT 1",
            self.organization,
            email,
        )
        assert found is not None
        return found


@pytest.fixture
async def team(factory: Factory, superuser: asyncpg.Connection[Any]) -> AsyncIterator[Team]:
    async with AsyncExitStack() as stack:
        made = Team(await factory.organization(), factory, superuser, stack)
        await factory.plan(made.organization)
        for role in Role:
            made.people[role.label] = await factory.person(role, made.organization)
        made.people["stranger"] = await factory.person(Role.OWNER)
        for name, person in made.people.items():
            setattr(made, name, await made.browser(person))
        yield made
