"""Who may do what is one truth table, asked in one place; every no is remembered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from service.core import clock
from service.core.context import ANONYMOUS, SYSTEM, Actor, ActorKind, Context, Login
from service.core.errors import Forbidden, NotAuthenticated, StepUpRequired
from service.guardrails import permissions
from service.guardrails.actions import RULES, action, query
from service.guardrails.permissions import Requirement, Role, Who, demand, is_fresh, permits
from tests.guardrails.playground import Box, Playground

PERSON, STAFF, KEY = (Actor(kind, uuid4()) for kind in (ActorKind.USER, ActorKind.STAFF, ActorKind.API_KEY))
REQUIREMENTS: tuple[Requirement, ...] = (*Role, *Who)

# Who asks: actor, role in the organization they act in (None: in none), and all they may meet.
ASKING: dict[str, tuple[Actor, Role | None, set[Requirement]]] = {
    "anonymous": (ANONYMOUS, None, {Who.ANYONE}),
    "without organization": (PERSON, None, {Who.ANYONE, Who.SIGNED_IN}),
    "viewer": (PERSON, Role.VIEWER, {Who.ANYONE, Who.SIGNED_IN, Role.VIEWER}),
    "member": (PERSON, Role.MEMBER, {Who.ANYONE, Who.SIGNED_IN, Role.VIEWER, Role.MEMBER}),
    "admin": (PERSON, Role.ADMIN, {Who.ANYONE, Who.SIGNED_IN, Role.VIEWER, Role.MEMBER, Role.ADMIN}),
    "owner": (PERSON, Role.OWNER, {Who.ANYONE, Who.SIGNED_IN, *Role}),
    "staff": (STAFF, None, {Who.ANYONE, Who.SIGNED_IN, Who.STAFF}),
    "staff who are members": (STAFF, Role.MEMBER, {Who.ANYONE, Who.SIGNED_IN, Who.STAFF, Role.VIEWER, Role.MEMBER}),
    "api key": (KEY, Role.MEMBER, {Who.ANYONE, Role.VIEWER, Role.MEMBER}),
    "system": (SYSTEM, None, {Who.ANYONE, Who.SYSTEM}),
}


@pytest.fixture
async def ctx(playground: Playground) -> AsyncIterator[Context]:
    async with playground.context(await playground.organization()) as made:
        yield made


def asking(ctx: Context, who: str) -> set[Requirement]:
    """Let this one ask; says what they may meet."""
    ctx.actor, ctx.role, allowed = ASKING[who]
    ctx.organization_id = ctx.work.tenant if ctx.role else None
    return allowed


@pytest.mark.parametrize("who", ASKING)
async def test_the_truth_table(ctx: Context, who: str) -> None:
    allowed = asking(ctx, who)
    assert {requirement for requirement in REQUIREMENTS if permits(ctx, requirement)} == allowed


@pytest.mark.parametrize("who", ASKING)
async def test_a_no_is_an_error_and_is_remembered(ctx: Context, who: str) -> None:
    for requirement in set(REQUIREMENTS) - asking(ctx, who):
        ctx.security_events.clear()
        with pytest.raises((Forbidden, NotAuthenticated)) as refusal:
            demand(ctx, "boxes.open", requirement)
        assert refusal.value.mend
        if who == "anonymous":
            assert isinstance(refusal.value, NotAuthenticated)
        else:
            (event,) = ctx.security_events
            assert (event.action, event.outcome, event.actor) == ("boxes.open", "denied", ctx.actor)


async def test_a_role_without_its_organization_opens_nothing(ctx: Context) -> None:
    asking(ctx, "owner")
    ctx.organization_id = None
    assert not permits(ctx, Role.VIEWER)


def login(age: timedelta) -> Login:
    now = clock.now()
    return Login("key", uuid4(), None, now - timedelta(days=1), now - age, ("password",), 0, "csrf")


async def test_a_dangerous_act_asks_for_a_recent_password(ctx: Context) -> None:
    asking(ctx, "owner")
    limit = timedelta(minutes=ctx.settings.step_up_minutes)
    ctx.login = login(limit - timedelta(seconds=5))
    demand(ctx, "boxes.burn", Role.OWNER, step_up=True)
    clock.advance(timedelta(seconds=10))
    with pytest.raises(StepUpRequired):
        demand(ctx, "boxes.burn", Role.OWNER, step_up=True)
    demand(ctx, "boxes.open", Role.OWNER)
    ctx.login = replace(ctx.login, authenticated_at=clock.now())
    demand(ctx, "boxes.burn", Role.OWNER, step_up=True)


@pytest.mark.parametrize(("who", "fresh"), [("api key", False), ("owner", False), ("system", True)])
async def test_without_a_login_only_the_system_is_fresh(ctx: Context, who: str, fresh: bool) -> None:
    asking(ctx, who)
    assert is_fresh(ctx) is fresh


async def test_a_stale_login_is_not_told_apart_from_a_missing_right(ctx: Context) -> None:
    """The right is checked first: a viewer is not asked for a password that would not help."""
    asking(ctx, "viewer")
    ctx.login = login(timedelta(days=1))
    with pytest.raises(Forbidden) as refusal:
        demand(ctx, "boxes.burn", Role.OWNER, step_up=True)
    assert not isinstance(refusal.value, StepUpRequired)


@action("playground.add_box", requires=Role.MEMBER)
async def add_box(ctx: Context) -> Box:
    box = Box(name="box")
    ctx.add(box)
    return box


@query("playground.open_box", requires=Role.MEMBER)
async def open_box(ctx: Context) -> str:
    return "opened"


for _probe in ("playground.add_box", "playground.open_box"):
    RULES.pop(_probe)  # the reviewed list of the service's rules has no probes in it


@pytest.mark.parametrize("verb", [add_box, open_box])
async def test_the_decorators_ask_before_the_body_runs(ctx: Context, verb: object) -> None:
    assert callable(verb)
    asking(ctx, "viewer")
    with pytest.raises(Forbidden, match="role member or higher"):
        await verb(ctx)
    assert await ctx.work.raw.fetchval("SELECT count(*) FROM boxes") == 0
    asking(ctx, "member")
    assert await verb(ctx)


async def test_it_bites_without_the_question_a_viewer_writes(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permissions, "permits", lambda *_: True)
    asking(ctx, "viewer")
    await add_box(ctx)
    assert await ctx.work.raw.fetchval("SELECT count(*) FROM boxes") == 1
    await ctx.work.abandon()
