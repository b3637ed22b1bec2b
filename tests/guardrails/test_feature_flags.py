"""Feature flags: one organization's alone, everywhere within seconds, and nearly always without a statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest

from service.core.context import Actor, ActorKind, Resources
from service.core.ids import new_id
from service.guardrails import feature_flags
from service.guardrails.feature_flags import FLAGS, Flag
from tests.support.captured_sql import sent_here

if TYPE_CHECKING:
    from tests.guardrails.durability import Acting

pytest_plugins = "tests.guardrails.durability"

STAFF = Actor(ActorKind.STAFF, new_id())
DEFAULT = FLAGS[Flag.TILE_RANGE].default


@pytest.fixture
async def tenants(own_superuser: asyncpg.Connection[Any], own_resources: Resources) -> list[UUID]:
    made = [new_id(), new_id()]
    for identifier in made:
        await own_superuser.execute(
            "INSERT INTO organizations (id, name, region, created_at) VALUES ($1, 'Flagged', 'eu', now())", identifier
        )
    feature_flags._known.pop(own_resources, None)
    return made


async def turn(acting: Acting, tenant: UUID, *, on: bool | None) -> None:
    async with acting(tenant=tenant, actor=STAFF) as ctx:
        await feature_flags.turn(ctx, Flag.TILE_RANGE, on=on)


async def seen(acting: Acting, tenant: UUID | None) -> bool:
    async with acting(tenant=tenant) as ctx:
        return await feature_flags.is_on(ctx, Flag.TILE_RANGE)


def seconds_pass(resources: Resources) -> None:
    """Make what this process knows old, as it is in every other process after five seconds."""
    known = feature_flags._known[resources]
    for tenant, (read_at, states) in known.items():
        known[tenant] = (read_at - 60, states)


async def test_a_flag_is_turned_for_one_organization_alone(
    acting: Acting, tenants: list[UUID], own_superuser: asyncpg.Connection[Any]
) -> None:
    mine, other = tenants
    assert [await seen(acting, tenant) for tenant in (mine, other, None)] == [DEFAULT] * 3
    await turn(acting, mine, on=not DEFAULT)
    assert [await seen(acting, tenant) for tenant in (mine, other, None)] == [not DEFAULT, DEFAULT, DEFAULT]
    row = await own_superuser.fetchrow("SELECT * FROM organization_flags WHERE organization_id = $1", mine)
    assert row is not None
    assert row["changed_by"] == STAFF.id
    await turn(acting, mine, on=DEFAULT)
    assert await seen(acting, mine) is DEFAULT
    await turn(acting, mine, on=None)
    assert not await own_superuser.fetchval("SELECT count(*) FROM organization_flags WHERE organization_id = $1", mine)


async def test_asking_costs_a_statement_every_few_seconds_and_a_turn_arrives_with_the_next(
    acting: Acting, tenants: list[UUID], own_resources: Resources, own_superuser: asyncpg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    mine = tenants[0]

    async def statements() -> int:
        async with acting(tenant=mine) as ctx:
            with sent_here() as sent:
                for _ in range(5):
                    await feature_flags.is_on(ctx, Flag.TILE_RANGE)
        return sum("organization_flags" in sql for sql in sent)

    assert [await statements(), await statements()] == [1, 0]
    # Another process turned it: this one believes what it read until that is old.
    await own_superuser.execute(
        "INSERT INTO organization_flags VALUES ($1, $2, $3, now(), NULL)", mine, Flag.TILE_RANGE.value, not DEFAULT
    )
    assert await seen(acting, mine) is DEFAULT
    seconds_pass(own_resources)
    assert await seen(acting, mine) is not DEFAULT
    monkeypatch.setattr(feature_flags, "FRESH_SECONDS", -1.0)
    assert await statements() == 5, "without remembering, every ask is a statement"


async def test_so_many_organizations_are_remembered_and_no_more(
    acting: Acting, tenants: list[UUID], own_resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_flags, "MOST_REMEMBERED", 1)
    for tenant in tenants:
        await seen(acting, tenant)
    assert list(feature_flags._known[own_resources]) == [tenants[1]]


async def test_no_organization_turns_another_or_sees_how_it_is_turned(
    acting: Acting, tenants: list[UUID], own_superuser: asyncpg.Connection[Any]
) -> None:
    """With the automatic filter out of the way the policies still hold, and without them the attack succeeds."""
    mine, other = tenants
    await turn(acting, other, on=True)
    look = "SELECT count(*) FROM organization_flags WHERE organization_id = $1"
    steal = "UPDATE organization_flags SET is_on = false WHERE organization_id = $1"
    async with acting(tenant=mine) as ctx:
        assert await ctx.work.raw.fetchval(look, other) == 0
        assert await ctx.work.raw.execute(steal, other) == "UPDATE 0"
    await own_superuser.execute("ALTER TABLE organization_flags DISABLE ROW LEVEL SECURITY")
    try:
        async with acting(tenant=mine) as ctx:
            assert await ctx.work.raw.execute(steal, other) == "UPDATE 1"
    finally:
        await own_superuser.execute("ALTER TABLE organization_flags ENABLE ROW LEVEL SECURITY")
