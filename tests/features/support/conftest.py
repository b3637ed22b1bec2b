"""Somebody of our staff, and a customer: an owner with an organization in which there is something to see."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx
import pytest

from service.core import clock
from service.core.ids import new_id
from service.guardrails.permissions import Role
from service.guardrails.purposes import EVERYTHING
from tests.support.client import HIDDEN, Client
from tests.support.factories import PASSWORD, Factory, Person

REASON = "They wrote that the import of Monday shows nothing."


@dataclass
class Case:
    staff: Person
    browser: Client
    """Of the staff."""
    owner: Person
    name: str
    customer: Client
    factory: Factory
    superuser: asyncpg.Connection[Any]
    stack: AsyncExitStack

    @property
    def path(self) -> str:
        return f"/staff/people/{self.owner.id}/impersonation"

    async def keep_support_out(self) -> None:
        answer = await self.customer.submit("/organization/support/closing", page="/organization/support")
        assert answer.status_code == 303
        assert "stays outside" in await self.customer.page("/organization/support")

    async def restrict(self, person: Person | None = None) -> None:
        await self.superuser.execute(
            "INSERT INTO processing_limits (id, user_id, purpose, reason, placed_at) VALUES ($1, $2, $3, 'x', now())",
            new_id(), (person or self.owner).id, EVERYTHING,
        )  # fmt: skip

    async def enter(self, **changes: str) -> httpx.Response:
        fields = {"organization_id": str(self.owner.organization_id), "reason": REASON} | changes
        return await self.browser.submit(self.path, page="/staff", **fields)

    async def press(self, client: Client, path: str, *, page: str = "/dashboard", **fields: str) -> httpx.Response:
        """Send a form as the browser of a page would."""
        shown = await client.page(page)
        hidden = {html.unescape(name): html.unescape(value) for name, value in HIDDEN.findall(shown)}
        return await client.post(path, csrf=hidden["csrf"], schema_version=hidden.get("schema_version", ""), **fields)

    async def rows(self, action: str) -> list[asyncpg.Record]:
        found: list[asyncpg.Record] = await self.superuser.fetch(
            "SELECT * FROM audit_log WHERE organization_id = $1 AND action = $2 ORDER BY id",
            self.owner.organization_id, action,
        )  # fmt: skip
        return found

    async def visit(self) -> asyncpg.Record:
        row = await self.superuser.fetchrow(
            "SELECT * FROM support_visits WHERE organization_id = $1", self.owner.organization_id
        )
        assert row is not None
        return row


def text_of(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


@pytest.fixture
async def case(factory: Factory, superuser: asyncpg.Connection[Any]) -> AsyncIterator[Case]:
    # All of staff are told of emergency rights: hundreds, from the tests before, whose mails would stand before others.
    await superuser.execute("UPDATE users SET is_staff = false WHERE is_staff")
    async with AsyncExitStack() as stack:
        staff, owner = (
            await factory.person(staff=True, password=PASSWORD),
            await factory.person(Role.OWNER, password=PASSWORD),
        )
        name = await superuser.fetchval("SELECT name FROM users WHERE id = $1", owner.id)
        browser = await stack.enter_async_context(await factory.client(staff, "password", "totp"))
        customer = await stack.enter_async_context(await factory.client(owner))
        yield Case(staff, browser, owner, name, customer, factory, superuser, stack)
    clock.reset()
