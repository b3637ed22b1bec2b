"""What several features' tests begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from service.guardrails.permissions import Role
from tests.support.client import Client
from tests.support.factories import Factory, Person


@pytest.fixture
async def staff_person(factory: Factory) -> Person:
    return await factory.person(Role.OWNER, staff=True)


@pytest.fixture
async def staff(factory: Factory, staff_person: Person) -> AsyncIterator[Client]:
    async with await factory.client(staff_person, "password", "totp") as client:
        yield client
