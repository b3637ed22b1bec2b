"""A colleague with a second factor, in a browser."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from service.guardrails.permissions import Role
from tests.support.client import Client
from tests.support.factories import Factory, Person

WHY = "Ticket 4711: cannot log in since Monday"


async def say_why(staff: Client, path: str) -> None:
    page = f"/staff/reasons?next={path}"
    answer = await staff.submit("/staff/reasons", page=page, next=path, reason=WHY)
    assert answer.headers["location"] == path


@pytest.fixture
async def staff_person(factory: Factory) -> Person:
    return await factory.person(Role.OWNER, staff=True)


@pytest.fixture
async def staff(factory: Factory, staff_person: Person) -> AsyncIterator[Client]:
    async with await factory.client(staff_person, "password", "totp") as client:
        yield client
