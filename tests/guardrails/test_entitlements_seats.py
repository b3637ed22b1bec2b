"""Seats of a plan over real HTTP: an invitation keeps one, and the last is taken once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from uuid import UUID

from service.core import clock
from service.core.ids import new_id
from service.guardrails.entitlements import Feature
from service.guardrails.permissions import Role
from tests.architecture.planted import deleted_organization
from tests.guardrails.plans_at_work import accept, ask, count, home
from tests.support.client import Client
from tests.support.factories import Factory, Person

AT_ONCE = 20
HOUR = timedelta(hours=1)


async def test_an_invitation_keeps_a_seat_and_many_at_once_take_the_last_one_once(
    factory: Factory, owner: Person, browser: Client
) -> None:
    organization = home(owner)
    await factory.person(Role.MEMBER, organization)
    answers = await asyncio.gather(*(ask(browser) for _ in range(AT_ONCE)))
    codes = [answer.status_code for answer in answers]
    assert codes.count(303) == 1, codes
    assert set(codes) <= {303, 403, 503}, codes
    assert await count(factory, "invitations", organization) == 1
    told = (await ask(browser)).json()
    assert told["detail"] == "Your plan (Free) includes 3 seats, and you have 3."
    assert told["mend"].endswith("or remove a member or withdraw an invitation.")
    page = await browser.submit("/members/invitations", email=f"i{new_id().hex[-12:]}@example.com", role="member")
    assert (page.status_code, 'href="/billing"' in page.text) == (403, True)
    await factory.superuser.execute(
        "UPDATE invitations SET revoked_at = now() WHERE organization_id = $1", organization
    )
    assert (await ask(browser)).status_code == 303


async def test_accepting_takes_the_seat_that_was_kept_and_none_beyond(
    factory: Factory, owner: Person, stack: AsyncExitStack
) -> None:
    organization = home(owner)
    for _ in range(2):
        assert (await accept(factory, stack, organization, owner)).status_code == 303
    full = await accept(factory, stack, organization, owner)
    assert full.status_code == 409
    assert "has no free seat right now. Ask whoever invited you" in full.text
    assert "Free" not in full.text, "what the plan is, is not for strangers"
    assert await count(factory, "memberships", organization) == 3
    assert await count(factory, "invitations", organization, "accepted_at IS NULL") == 1
    await factory.plan(organization, "team")
    assert (await accept(factory, stack, organization, owner)).status_code == 303


async def test_a_deleted_organization_comes_back_however_many_belong_to_it(
    factory: Factory, owner: Person, browser: Client
) -> None:
    gone = UUID(str(await deleted_organization(factory, home(owner), owner)))
    for _ in range(4):
        await factory.person(Role.MEMBER, gone)
    await factory.plan(gone, "team", full_until=clock.now() - HOUR, limits={Feature.SEATS: 1})
    answer = await browser.post(f"/organizations/{gone}/restoration", csrf=browser.csrf)
    assert answer.status_code == 303
    assert await factory.superuser.fetchval("SELECT deleted_at FROM organizations WHERE id = $1", gone) is None
