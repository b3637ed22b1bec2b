"""What a row of entitlements holds, and indicators of a plan over real HTTP: one more does not work."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.core import clock
from service.core.context import SYSTEM, Access, Caller, Context, Resources
from service.core.ids import new_id
from service.core.statements import PreparedText
from service.features.indicators import actions as indicators
from service.features.indicators.schemas import IndicatorCreate
from service.guardrails import entitlements
from service.guardrails.entitlements import Feature, Plans
from service.guardrails.permissions import Role
from tests.guardrails.plans_at_work import acting, count, create, home
from tests.support.captured_sql import sent_here
from tests.support.client import Client
from tests.support.factories import Factory, Person

AT_ONCE = 20
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
PLANS = Plans("free", {Feature.INDICATORS: 2, Feature.SEATS: 1}, {"free": "Free", "team": "Team"})


@pytest.mark.parametrize(
    ("row", "plan", "limit", "access"),
    [
        (None, "free", 2, Access.FULL),
        ({"plan": None}, "free", 2, Access.FULL),
        ({"full_until": None, "valid_until": NOW + HOUR}, "team", 9, Access.FULL),
        ({"full_until": None, "valid_until": None}, "team", 9, Access.FULL),
        ({"full_until": None, "valid_until": NOW}, "free", 2, Access.FULL),
        ({"full_until": NOW + HOUR, "valid_until": None}, "team", 9, Access.FULL),
        ({"full_until": NOW, "valid_until": NOW + HOUR}, "team", 9, Access.READ_ONLY),
        ({"full_until": NOW - HOUR, "valid_until": NOW}, "free", 2, Access.FULL),
    ],
)
def test_a_row_holds_until_it_says_and_after_that_the_free_plan(
    row: dict[str, Any] | None, plan: str, limit: int, access: Access
) -> None:
    held = entitlements.current(row and {"plan": "team", "grants": {"indicators": 9}} | row, PLANS, NOW)
    assert (held.plan, held.limits[Feature.INDICATORS], held.access(NOW)) == (plan, limit, access)
    assert held.limits[Feature.SEATS] == 1, "a feature that the row does not name has the free plan's number"


async def test_a_job_asks_once_and_again_for_another_organization(factory: Factory, resources: Resources) -> None:
    here, there = await factory.organization(), await factory.organization()
    await factory.plan(there, "team")
    with sent_here() as statements:
        async with resources.database.unit_of_work(tenant=here) as work:
            ctx = Context(work, resources, SYSTEM, Caller("job"), here)
            assert [(await entitlements.of(ctx)).plan for _ in range(3)] == ["free"] * 3
            assert len(statements) == 1
            await work.act_for(tenant=there, user=None)
            assert (await entitlements.of(ctx)).plan == "team"


# Indicators


async def test_the_last_one_fits_and_the_next_is_refused_with_a_way_out(
    factory: Factory, owner: Person, browser: Client
) -> None:
    organization = home(owner)
    archived = await factory.indicator(organization, archived_at=clock.now())
    for _ in range(18):
        await factory.indicator(organization)
    binned = await factory.indicator(organization, deleted_at=clock.now(), deletion_id=new_id())
    assert (await create(browser)).status_code == 201, "what lies in the bin does not count"
    refused = await create(browser)
    assert refused.status_code == 403
    told = refused.json()
    assert told["code"] == "plan-limit"
    assert told["detail"] == "Your plan (Free) includes 20 indicators, and you have 20."
    assert told["mend"] == "Upgrade on the plan page (/billing), or delete one."
    page = await browser.submit("/indicators/new", name="By hand")
    assert page.status_code == 403
    assert told["detail"] in page.text
    assert 'href="/billing"' in page.text
    assert (await browser.api("POST", f"/indicators/{binned}/restoration")).json()["code"] == "plan-limit"
    assert (await browser.api("DELETE", f"/indicators/{archived}/archival")).status_code == 200, "it has counted so far"
    assert await count(factory, "indicators", organization, "deleted_at IS NULL") == 20
    assert (await browser.api("DELETE", f"/indicators/{archived}")).status_code == 204
    assert (await browser.api("POST", f"/indicators/{binned}/restoration")).status_code == 201
    await factory.plan(organization, "team")
    assert (await create(browser)).status_code == 201


async def test_scenario_55_a_downgrade_deletes_nothing_and_adds_nothing(
    factory: Factory, owner: Person, browser: Client
) -> None:
    organization = home(owner)
    await factory.plan(organization, "team", limits={Feature.INDICATORS: 3})
    ids = [str(await factory.indicator(organization)) for _ in range(3)]
    await factory.plan(organization, "team", limits={Feature.INDICATORS: 1})
    assert {item["id"] for item in (await browser.api("GET", "/indicators")).json()["items"]} == set(ids)
    assert (await browser.api("PATCH", f"/indicators/{ids[0]}", {"name": "Still mine"})).status_code == 200
    assert (await create(browser)).json()["detail"] == "Your plan (Team) includes 1 indicators, and you have 3."


async def test_many_at_once_fill_the_last_place_once(factory: Factory, owner: Person, browser: Client) -> None:
    organization = home(owner)
    for _ in range(19):
        await factory.indicator(organization)
    answers = await asyncio.gather(*(create(browser) for _ in range(AT_ONCE)))
    codes = [answer.status_code for answer in answers]
    assert codes.count(201) == 1, codes
    assert set(codes) <= {201, 403, 503}, codes
    assert await count(factory, "indicators", organization) == 20


async def two_at_once(resources: Resources, factory: Factory) -> int:
    """Two transactions that are open together add one each where one fits; how many there are afterwards."""
    person = await factory.person(Role.OWNER)
    await factory.plan(home(person), "team", limits={Feature.INDICATORS: 1})
    first_added = asyncio.Event()

    async def first() -> None:
        async with acting(resources, person) as ctx:
            await indicators.create_indicator(ctx, IndicatorCreate(name="First"))
            first_added.set()
            await asyncio.sleep(0.3)

    async def second() -> None:
        await first_added.wait()
        async with acting(resources, person) as ctx:
            await indicators.create_indicator(ctx, IndicatorCreate(name="Second"))

    await asyncio.gather(first(), second(), return_exceptions=True)
    return await count(factory, "indicators", home(person))


async def test_taking_turns_is_what_keeps_the_limit(
    resources: Resources, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It bites: whoever counts without waiting counts what was there before."""
    assert await two_at_once(resources, factory) == 1
    no_turns = PreparedText("SELECT :feature || CAST(CAST(:context_tenant AS uuid) AS text)")
    monkeypatch.setattr(entitlements, "TAKE_TURNS", no_turns)
    assert await two_at_once(resources, factory) == 2
