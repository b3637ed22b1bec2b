"""While a payment is due: reading, paying, leaving and deleting work, and nothing else does."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import timedelta
from uuid import uuid4

import pytest

from service.core import clock
from service.core.context import Resources
from service.features.organizations import actions as organizations
from service.guardrails.entitlements import Feature, PaymentDue, PlanLimit
from service.guardrails.permissions import Role
from tests.guardrails.plans_at_work import accept, acting, ask, count, create, home
from tests.support.client import Client
from tests.support.factories import Factory, Person

HOUR = timedelta(hours=1)


async def test_scenario_50_an_organization_in_debt_reads_pays_leaves_and_deletes_and_does_nothing_else(
    factory: Factory, owner: Person, browser: Client, stack: AsyncExitStack
) -> None:
    organization, indicator = home(owner), await factory.indicator(home(owner))
    member = await factory.person(Role.MEMBER, organization)
    viewer = await stack.enter_async_context(await factory.client(await factory.person(Role.VIEWER, organization)))
    await factory.plan(organization, "team", full_until=clock.now() - HOUR, valid_until=clock.now() + HOUR)
    refused = await create(browser)
    assert (refused.status_code, refused.json()["code"]) == (403, "payment-due")
    assert "/billing" in refused.json()["mend"]
    assert (await browser.api("PATCH", f"/indicators/{indicator}", {"name": "New"})).json()["code"] == "payment-due"
    assert (await ask(browser)).json()["code"] == "payment-due"
    page = await browser.submit("/indicators/new", name="By hand")
    assert (page.status_code, 'href="/billing"' in page.text) == (403, True)
    seen, others = await browser.page("/indicators"), await viewer.page("/indicators")
    assert "This organization is read-only, because a payment is due." in seen
    assert "This organization is read-only, because a payment is due." in others
    assert ('<a href="/billing">Pay now</a>' in seen, "Pay now" in others) == (True, False)
    guest = await accept(factory, stack, organization, owner)
    assert guest.status_code == 409
    membership = await factory.superuser.fetchval("SELECT id FROM memberships WHERE user_id = $1", member.id)
    removal = await browser.post(f"/members/{membership}/removal", csrf=browser.csrf)
    assert removal.status_code == 303
    assert (await browser.api("DELETE", f"/indicators/{indicator}")).status_code == 204
    assert (await viewer.post("/organization/departure", csrf=viewer.csrf)).status_code == 303
    assert await count(factory, "memberships", organization) == 1


async def test_until_then_a_banner_says_when(factory: Factory, owner: Person, browser: Client) -> None:
    assert "payment is due" not in await browser.page("/indicators")
    until = clock.now() + timedelta(days=3)
    await factory.plan(home(owner), "team", full_until=until)
    page = await browser.page("/indicators")
    assert f"A payment is due. Everything works until {until:%-d %B %Y}; after that, only reading does." in page
    assert (await create(browser)).status_code == 201


async def test_without_the_question_an_organization_in_debt_goes_on_adding(
    factory: Factory, owner: Person, resources: Resources
) -> None:
    """It bites: the functions behind the doors, and the door that is marked."""
    await factory.plan(home(owner), "team", full_until=clock.now() - HOUR)
    async with acting(resources, owner) as ctx:
        with pytest.raises(PaymentDue):
            await organizations.rename_organization(ctx, "New")
        with pytest.raises(PaymentDue):
            await ctx.allow(Feature.SEATS)
    async with acting(resources, owner) as ctx:
        bare = organizations.rename_organization.__wrapped__  # type: ignore[attr-defined]
        assert (await bare(ctx, "New")).name == "New"


async def test_one_more_is_refused_for_whoever_asks_without_a_request(
    factory: Factory, owner: Person, resources: Resources
) -> None:
    await factory.plan(home(owner), "team", limits={Feature.INDICATORS: 0})
    async with acting(resources, owner) as ctx:
        with pytest.raises(PlanLimit, match="includes 0 indicators, and you have 0"):
            await ctx.allow(Feature.INDICATORS)
    async with acting(resources, Person(uuid4(), "", home(await factory.person(Role.OWNER)), Role.OWNER)) as ctx:
        await ctx.allow(Feature.INDICATORS)
