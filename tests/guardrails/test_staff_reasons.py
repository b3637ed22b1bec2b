"""Personal data is shown to staff for a reason: of this login, for this subject, for a while; each look is noted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from service.core.context import Actor, ActorKind, Caller, Context, Login, Resources
from service.core.database import UnitOfWork
from service.core.redis import LOST
from service.guardrails import staff_reasons
from tests.support.factories import Factory

WHY = "Ticket 4711: cannot log in"
SUBJECT = "/staff/people"


@pytest.fixture
async def ctx(factory: Factory, resources: Resources) -> AsyncIterator[Context]:
    person = await factory.person(staff=True)
    _, login = await factory.log_in(person, "password", "totp")
    async with resources.database.connection() as connection:
        work = UnitOfWork(connection)
        yield Context(work, resources, Actor(ActorKind.STAFF, person.id), Caller("test"), login=login)


def other_login(ctx: Context) -> Login:
    assert ctx.login is not None
    return replace(ctx.login, created_at=ctx.login.created_at + timedelta(seconds=1))


async def test_a_reason_opens_its_subject_and_each_look_is_noted(ctx: Context) -> None:
    assert await staff_reasons.given(ctx, SUBJECT) == ""
    assert ctx.security_events == [], "nothing was shown"
    await staff_reasons.keep(ctx, SUBJECT, WHY)
    for _ in range(2):
        assert await staff_reasons.given(ctx, SUBJECT, account="a person") == WHY
    noted = [(event.action, event.outcome, event.facts) for event in ctx.security_events]
    assert noted == [("staff.read_personal", "done", {"about": SUBJECT, "reason": WHY, "account": "a person"})] * 2
    assert ctx.login is not None
    ctx.login = replace(ctx.login, key="renewed", authenticated_at=ctx.login.authenticated_at + timedelta(minutes=5))
    assert await staff_reasons.given(ctx, SUBJECT) == WHY, "a new proof of identity is the same login"


async def test_it_opens_nothing_else_nobody_elses_and_not_for_long(ctx: Context) -> None:
    await staff_reasons.keep(ctx, SUBJECT, WHY)
    assert await staff_reasons.given(ctx, f"{SUBJECT}/1") == ""
    mine = ctx.login
    ctx.login = other_login(ctx)
    assert await staff_reasons.given(ctx, SUBJECT) == ""
    ctx.login = mine
    left = await ctx.resources.redis.pttl(staff_reasons._key(ctx, SUBJECT))
    assert 0 < left <= staff_reasons.LASTS / timedelta(milliseconds=1)


async def test_it_bites_with_a_key_that_forgets_the_login_a_colleagues_reason_opens(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = staff_reasons._key(ctx, SUBJECT)
    monkeypatch.setattr(staff_reasons, "_key", lambda ctx, subject: key)
    await staff_reasons.keep(ctx, SUBJECT, WHY)
    ctx.login = other_login(ctx)
    assert await staff_reasons.given(ctx, SUBJECT) == WHY


async def test_without_redis_nobody_has_given_one(ctx: Context, resources: Resources) -> None:
    await staff_reasons.keep(ctx, SUBJECT, WHY)

    class Away:
        async def get(self, _: str) -> bytes:
            raise LOST[0]

    ctx.resources = Resources(resources.settings, resources.database, Away())  # type: ignore[arg-type]
    assert await staff_reasons.given(ctx, SUBJECT) == ""
