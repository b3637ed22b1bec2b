"""Rows of all organizations: for whom they are, who goes without, and that nobody changes them by this way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from service.core.ids import new_id
from service.guardrails.permissions import Role
from tests.architecture.planted import ended_import, webhook_endpoint
from tests.architecture.test_statements import billing_invoice
from tests.support.factories import Factory, Person

Db: TypeAlias = "asyncpg.Connection[Any]"
POLICIES = """
    SELECT polrelid::regclass::text AS name, polcmd::text AS command, pg_get_expr(polqual, polrelid) AS condition
    FROM pg_policy WHERE polname = polrelid::regclass::text || '_staff'
"""


@pytest.fixture
async def tables(superuser: Db) -> dict[str, str]:
    """Table -> the column that says whose a row is."""
    found = await superuser.fetch(POLICIES)
    assert len(found) >= 9, f"the scan saw only {len(found)} policies"
    assert {row["command"] for row in found} == {"r"}, "staff look; what they change they change by actions"
    return {row["name"]: "id" if row["name"] == "organizations" else "organization_id" for row in found}


@pytest.fixture
async def theirs(factory: Factory) -> UUID:
    """An organization that has a row in each of these tables."""
    owner = await factory.person(Role.OWNER)
    assert owner.organization_id is not None
    await factory.key(owner.organization_id)
    await factory.file(owner.organization_id)
    await factory.source(owner.organization_id)
    await ended_import(factory, owner.organization_id, None)
    await webhook_endpoint(factory, owner.organization_id, owner)
    await factory.superuser.execute(
        "INSERT INTO billing_customers (id, organization_id, stripe_customer_id, livemode, created_at)"
        " VALUES ($1, $2, $3, false, now())", identifier := new_id(), owner.organization_id, f"cus_{identifier.hex}",
    )  # fmt: skip
    await billing_invoice(factory, owner.organization_id)
    async with await factory.client(owner) as client:
        assert (await client.api("POST", "/indicators", {"name": "Noted in the log"})).status_code == 201
    return owner.organization_id


@asynccontextmanager
async def acting(db: Db, person: Person | None, *, staff: bool, tenant: UUID | None = None) -> AsyncIterator[None]:
    """As the application asks, until the block ends; nothing stays."""
    undone = db.transaction()
    await undone.start()
    try:
        user = person.id if person else ""
        await db.execute(f"SET LOCAL app.tenant = '{tenant or ''}'; SET LOCAL app.\"user\" = '{user}'")
        if staff:
            await db.execute("SET LOCAL app.staff = 'on'")
        await db.execute("SET LOCAL ROLE ballast_app")
        yield
    finally:
        await undone.rollback()


async def seen(db: Db, tables: dict[str, str], whose: UUID) -> set[str]:
    """The tables some of whose rows of this organization show."""
    asked = {name: f"SELECT EXISTS (SELECT FROM {name} WHERE {column} = $1)" for name, column in tables.items()}
    return {name for name, sql in asked.items() if await db.fetchval(sql, whose)}


async def test_staff_see_them_and_nobody_else_does(
    factory: Factory, superuser: Db, tables: dict[str, str], theirs: UUID
) -> None:
    colleague, stranger = await factory.person(staff=True), await factory.person(Role.OWNER)
    assert await seen(superuser, tables, theirs) == set(tables), "there is something to see"
    async with acting(superuser, colleague, staff=True):
        assert await seen(superuser, tables, theirs) == set(tables)
    for person, staff, tenant in (
        (colleague, False, None),  # outside the panel, staff are people as all others
        (stranger, True, None),
        (stranger, True, stranger.organization_id),
        (None, True, None),
    ):
        async with acting(superuser, person, staff=staff, tenant=tenant):
            assert await seen(superuser, tables, theirs) == set()


async def test_staff_change_nothing_by_it(
    factory: Factory, superuser: Db, tables: dict[str, str], theirs: UUID
) -> None:
    colleague = await factory.person(staff=True)
    for name, column in tables.items():
        for sql in (
            f"UPDATE {name} SET {column} = {column} WHERE {column} = $1",
            f"DELETE FROM {name} WHERE {column} = $1",
        ):
            async with acting(superuser, colleague, staff=True):
                # Or it has not even the right.
                with suppress(asyncpg.InsufficientPrivilegeError):
                    assert (await superuser.execute(sql, theirs)).endswith(" 0"), sql


async def test_it_bites_without_the_question_who_asks(
    factory: Factory, superuser: Db, tables: dict[str, str], theirs: UUID
) -> None:
    stranger = await factory.person(Role.OWNER)
    undone = superuser.transaction()
    await undone.start()
    try:
        await superuser.execute("ALTER POLICY files_staff ON files USING (current_setting('app.staff', true) = 'on')")
        async with acting(superuser, stranger, staff=True):
            assert await seen(superuser, tables, theirs) == {"files"}
    finally:
        await undone.rollback()
