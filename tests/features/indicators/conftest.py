"""One organization with a member and a viewer, and a stranger from another organization."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

import pytest

from service.guardrails.permissions import Role
from tests.support.client import Client
from tests.support.factories import Factory


@dataclass
class Team:
    organization: UUID
    member: Client
    viewer: Client
    stranger: Client
    factory: Factory

    async def indicator(self, name: str = "") -> str:
        return str(await self.factory.indicator(self.organization, name))


@pytest.fixture
async def team(factory: Factory) -> AsyncIterator[Team]:
    organization = await factory.organization()
    await factory.plan(organization)  # years of history, and room for what the tests make
    member = await factory.client(await factory.person(Role.MEMBER, organization))
    viewer = await factory.client(await factory.person(Role.VIEWER, organization))
    stranger = await factory.client(await factory.person(Role.OWNER))
    async with member, viewer, stranger:
        yield Team(organization, member, viewer, stranger, factory)
