"""Support in somebody's account may look and hardly touch; who really acted is written down; and it ends by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from service.core import clock
from service.core.context import Actor, ActorKind, Context, Resources
from service.core.ids import new_id
from service.guardrails import actions, impersonation, permissions, sessions
from service.guardrails.impersonation import LONGEST, NotInAVisit, VisitOver
from service.guardrails.permissions import Who
from tests.support.factories import Factory

if TYPE_CHECKING:
    from tests.guardrails.durability import Acting

pytest_plugins = "tests.guardrails.durability"

PERSON, COLLEAGUE = Actor(ActorKind.USER, new_id()), Actor(ActorKind.STAFF, new_id())


@actions.action("impersonation_tests.change", requires=Who.SIGNED_IN)
async def change(ctx: Context) -> str:
    return "changed"


@actions.action("impersonation_tests.try_again", requires=Who.SIGNED_IN, while_impersonated=True)
async def try_again(ctx: Context) -> str:
    return "tried"


@actions.query("impersonation_tests.look", requires=Who.SIGNED_IN)
async def look(ctx: Context) -> str:
    return "seen"


@actions.query("impersonation_tests.secret", requires=Who.SIGNED_IN, while_impersonated=False)
async def secret(ctx: Context) -> str:
    return "whispered"


@pytest.fixture(scope="module", autouse=True)
def _rules_of_this_file() -> Iterator[None]:
    yield
    for verb in (change, try_again, look, secret):
        del actions.RULES[verb.rule.name]  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
async def _time_again() -> AsyncIterator[None]:
    yield
    clock.reset()


async def test_support_looks_and_does_what_is_marked(acting: Acting, own_superuser: asyncpg.Connection[Any]) -> None:
    async with acting(actor=PERSON) as ctx:
        ctx.acted_by = COLLEAGUE
        assert (await look(ctx), await try_again(ctx)) == ("seen", "tried")
        assert [actions.may(ctx, verb) for verb in (look, try_again, change, secret)] == [True, True, False, False]
    row = await own_superuser.fetchrow("SELECT * FROM audit_log WHERE action = 'impersonation_tests.try_again'")
    assert row is not None
    assert (row["actor_kind"], row["actor_id"], row["on_behalf_of"]) == ("staff", COLLEAGUE.id, PERSON.id)


async def test_everything_else_is_refused_and_recorded(acting: Acting, own_superuser: asyncpg.Connection[Any]) -> None:
    person = Actor(ActorKind.USER, new_id())
    async with acting(actor=person) as ctx:
        ctx.acted_by = COLLEAGUE
        for verb in (change, secret):
            with pytest.raises(NotInAVisit, match="and not do this"):
                await verb(ctx)
        with pytest.raises(NotInAVisit):
            actions.allow(ctx, change)
    rows = await own_superuser.fetch(
        "SELECT outcome, actor_id FROM audit_log WHERE action = 'impersonation_tests.change' AND on_behalf_of = $1",
        person.id,
    )
    assert [tuple(row) for row in rows] == [("denied", COLLEAGUE.id)] * 2


async def test_without_the_question_the_change_goes_through(acting: Acting, monkeypatch: pytest.MonkeyPatch) -> None:
    """It bites."""
    monkeypatch.setattr(impersonation, "refuse", lambda *_, **__: None)
    async with acting(actor=PERSON) as ctx:
        ctx.acted_by = COLLEAGUE
        assert (await change(ctx), await secret(ctx)) == ("changed", "whispered")


async def begin(factory: Factory) -> tuple[Resources, str, str]:
    """The cookie values of a colleague's own session and of a visit's."""
    staff, person = await factory.person(staff=True), await factory.person()
    own, login = await factory.log_in(staff, "password", "totp")
    token, inside = await sessions.begin_beside(
        factory.resources,
        login,
        user_id=person.id,
        organization_id=new_id(),
        epoch=0,
        visit_id=new_id(),
        ends_at=clock.now() + LONGEST,
    )
    assert inside.support is not None
    assert (inside.user_id, inside.support.staff_id) == (person.id, staff.id)
    return factory.resources, own, token


async def test_the_own_session_is_put_aside_under_an_id_that_nobody_holds(factory: Factory) -> None:
    resources, own, token = await begin(factory)
    with pytest.raises(sessions.SessionRotated):
        await sessions.load(resources, own)
    inside = await sessions.load(resources, token)
    assert inside is not None
    back = await sessions.return_from(resources, inside)
    assert back is not None
    assert back[1].support is None
    assert await sessions.load(resources, token) is None
    assert await sessions.load(resources, back[0]) == back[1]


async def test_a_visit_proves_nothing(factory: Factory, acting: Acting) -> None:
    """What asks for a fresh proof would otherwise take the colleague's for the person's."""
    resources, _, token = await begin(factory)
    inside = await sessions.load(resources, token)
    assert inside is not None
    async with acting(actor=PERSON) as ctx:
        ctx.login = inside
        assert not permissions.is_fresh(ctx)
        ctx.login = replace(inside, support=None)
        assert permissions.is_fresh(ctx), "it bites: without the mark the colleague's proof would do"


async def test_use_keeps_the_own_session_and_does_not_prolong_the_visit(factory: Factory) -> None:
    resources, _, token = await begin(factory)
    for _ in range(7):
        clock.advance(timedelta(minutes=2))
        impersonation.refuse_ended(await sessions.load(resources, token))
    clock.advance(timedelta(minutes=2))
    inside = await sessions.load(resources, token)
    with pytest.raises(VisitOver, match="15 minutes"):
        impersonation.refuse_ended(inside)
    assert inside is not None
    assert await sessions.return_from(resources, inside) is not None, "fourteen minutes of work are no idleness"


async def test_the_way_back_closes_too(factory: Factory) -> None:
    resources, _, token = await begin(factory)
    clock.advance(LONGEST + sessions.WAY_BACK + timedelta(seconds=1))
    assert await sessions.load(resources, token) is None


async def test_a_visit_is_nothing_without_the_session_beside_it(factory: Factory) -> None:
    resources, _, token = await begin(factory)
    inside = await sessions.load(resources, token)
    assert inside is not None
    assert inside.support is not None
    assert await sessions.end_device(resources, inside.support.staff_id, inside.support.beside)
    assert await sessions.load(resources, token) is None
