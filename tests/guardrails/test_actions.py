"""The doors to the domain: permitted, audited, announced, undone when they fail; and what happens without the door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from service.core.context import Actor, ActorKind, Caller, Context, Resources
from service.core.errors import Conflict, Forbidden, NotAuthenticated
from service.features.indicators.models import Indicator
from service.guardrails.actions import RULES, action, allow, may, query
from service.guardrails.permissions import Role
from tests.support.factories import Factory


@action("probe.create", requires=Role.MEMBER)
async def create_probe(ctx: Context, name: str, *, fail: bool = False) -> Indicator:
    indicator = Indicator(name=name)
    ctx.add(indicator)
    await ctx.db.flush()
    ctx.facts["why"] = "a test"
    if fail:
        raise Conflict("Half-way.")
    return indicator


@query("probe.read", requires=Role.VIEWER)
async def read_probe(ctx: Context) -> str:
    return "seen"


PROBES = {name: RULES[name] for name in ("probe.create", "probe.read")}


@pytest.fixture(autouse=True, scope="module")
def _forget_probes() -> Any:
    RULES.update(PROBES)  # again, when a worker comes back to this file after another has taken a part of it
    yield
    for name in PROBES:
        RULES.pop(name)


@asynccontextmanager
async def acting(resources: Resources, role: Role | None, organization: UUID) -> AsyncIterator[Context]:
    actor = Actor(ActorKind.USER, uuid4())
    async with resources.database.unit_of_work(tenant=organization, user=actor.id) as work:
        yield Context(
            work, resources, actor, Caller("test-request"), organization_id=organization if role else None, role=role
        )


async def rows(superuser: asyncpg.Connection[Any], organization: UUID) -> tuple[int, int]:
    """(indicators, audit rows) of one organization."""
    indicators = await superuser.fetchval("SELECT count(*) FROM indicators WHERE organization_id = $1", organization)
    audited = await superuser.fetchval("SELECT count(*) FROM audit_log WHERE organization_id = $1", organization)
    return indicators, audited


async def test_it_works(resources: Resources, factory: Factory, superuser: asyncpg.Connection[Any]) -> None:
    organization = await factory.organization()
    async with acting(resources, Role.MEMBER, organization) as ctx:
        made = await create_probe(ctx, "Audited")
        assert await read_probe(ctx) == "seen"
    assert await rows(superuser, organization) == (1, 1)
    row = await superuser.fetchrow("SELECT * FROM audit_log WHERE organization_id = $1", organization)
    assert (row["action"], row["object_id"], row["actor_id"]) == ("probe.create", made.id, ctx.actor.id)
    assert '"why": "a test"' in str(row["facts"])


@pytest.mark.parametrize("role", [Role.VIEWER, None])
async def test_a_lower_role_is_refused_and_remembered(
    role: Role | None, resources: Resources, factory: Factory, superuser: asyncpg.Connection[Any]
) -> None:
    organization = await factory.organization()
    async with acting(resources, role, organization) as ctx:
        assert not may(ctx, create_probe)
        with pytest.raises(Forbidden):
            await create_probe(ctx, "Denied")
        with pytest.raises(Forbidden):
            allow(ctx, create_probe)
        assert [event.outcome for event in ctx.security_events] == ["denied", "denied"]
    assert await rows(superuser, organization) == (0, 0)


async def test_nobody_is_sent_to_log_in(resources: Resources, factory: Factory) -> None:
    async with acting(resources, None, await factory.organization()) as ctx:
        ctx.actor = Actor(ActorKind.ANONYMOUS)
        with pytest.raises(NotAuthenticated):
            await create_probe(ctx, "Nobody")


async def test_a_failure_half_way_leaves_nothing_even_when_it_is_caught(
    resources: Resources, factory: Factory, superuser: asyncpg.Connection[Any]
) -> None:
    organization = await factory.organization()
    async with acting(resources, Role.MEMBER, organization) as ctx:
        with pytest.raises(Conflict):
            await create_probe(ctx, "Half", fail=True)
    assert await rows(superuser, organization) == (0, 0)


async def test_it_bites_when_removed(
    resources: Resources, factory: Factory, superuser: asyncpg.Connection[Any]
) -> None:
    """The bare function behind the door: a viewer writes, nothing is audited, and half a change is committed."""
    organization = await factory.organization()
    bare = create_probe.__wrapped__  # type: ignore[attr-defined]
    async with acting(resources, Role.VIEWER, organization) as ctx:
        with pytest.raises(Conflict):
            await bare(ctx, "Half", fail=True)
    assert await rows(superuser, organization) == (1, 0)


def test_two_actions_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="unique"):

        @action("probe.create", requires=Role.OWNER)
        async def other(ctx: Context) -> None: ...
