"""Plans over real HTTP: what is included works, one more does not, and nobody loses anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from service.core import clock, telemetry
from service.core.context import SYSTEM, Access, Actor, ActorKind, Caller, Context, Resources
from service.core.ids import new_id
from service.core.statements import PreparedText
from service.features.indicators import actions as indicators
from service.features.indicators.schemas import IndicatorCreate
from service.features.organizations import actions as organizations
from service.features.organizations.models import make_token
from service.guardrails import entitlements
from service.guardrails.entitlements import Feature, PaymentDue, PlanLimit, Plans
from service.guardrails.permissions import Role
from tests.architecture.test_role_matrix import deleted_organization, invite
from tests.support.client import Client
from tests.support.factories import Factory, Person

AT_ONCE = 20
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
PLANS = Plans("free", {Feature.INDICATORS: 2, Feature.SEATS: 1}, {"free": "Free", "team": "Team"})


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
async def owner(factory: Factory) -> Person:
    return await factory.person(Role.OWNER)


@pytest.fixture
async def browser(factory: Factory, owner: Person, stack: AsyncExitStack) -> Client:
    return await stack.enter_async_context(await factory.client(owner))


def home(person: Person) -> UUID:
    assert person.organization_id is not None
    return person.organization_id


async def create(client: Client) -> httpx.Response:
    return await client.api("POST", "/indicators", {"name": f"Made {new_id().hex[-12:]}"})


async def count(factory: Factory, table: str, organization: UUID, where: str = "true") -> int:
    found: int = await factory.superuser.fetchval(
        f"SELECT count(*) FROM {table} WHERE organization_id = $1 AND {where}", organization
    )
    return found


@asynccontextmanager
async def acting(resources: Resources, person: Person) -> AsyncIterator[Context]:
    """The person without a request: what holds for them is asked for when it is needed."""
    async with resources.database.unit_of_work(tenant=person.organization_id, user=person.id) as work:
        actor = Actor(ActorKind.USER, person.id)
        yield Context(work, resources, actor, Caller("test"), person.organization_id, person.role)


# What holds


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
    statements: list[str] = []
    telemetry.statement_listeners.append(statements.append)
    try:
        async with resources.database.unit_of_work(tenant=here) as work:
            ctx = Context(work, resources, SYSTEM, Caller("job"), here)
            assert [(await entitlements.of(ctx)).plan for _ in range(3)] == ["free"] * 3
            assert len(statements) == 1
            await work.act_for(tenant=there, user=None)
            assert (await entitlements.of(ctx)).plan == "team"
    finally:
        telemetry.statement_listeners.remove(statements.append)


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


# Seats


async def ask(client: Client) -> httpx.Response:
    given = {"email": f"i{new_id().hex[-12:]}@example.com", "role": "member"}
    return await client.api("POST", "/organizations/current/invitations", given)


async def test_an_invitation_keeps_a_seat_and_many_at_once_take_the_last_one_once(
    factory: Factory, owner: Person, browser: Client
) -> None:
    organization = home(owner)
    await factory.person(Role.MEMBER, organization)
    answers = await asyncio.gather(*(ask(browser) for _ in range(AT_ONCE)))
    codes = [answer.status_code for answer in answers]
    assert codes.count(201) == 1, codes
    assert set(codes) <= {201, 403, 503}, codes
    assert await count(factory, "invitations", organization) == 1
    told = (await ask(browser)).json()
    assert told["detail"] == "Your plan (Free) includes 3 seats, and you have 3."
    assert told["mend"].endswith("or remove a member or withdraw an invitation.")
    page = await browser.submit("/members/invitations", email=f"i{new_id().hex[-12:]}@example.com", role="member")
    assert (page.status_code, 'href="/billing"' in page.text) == (403, True)
    await factory.superuser.execute(
        "UPDATE invitations SET revoked_at = now() WHERE organization_id = $1", organization
    )
    assert (await ask(browser)).status_code == 201


async def accept(factory: Factory, stack: AsyncExitStack, organization: UUID, inviter: Person) -> httpx.Response:
    guest, identifier = await factory.person(), new_id()
    await invite(factory, organization, identifier, guest.email)
    await factory.superuser.execute("UPDATE invitations SET invited_by = $1 WHERE id = $2", inviter.id, identifier)
    client = await stack.enter_async_context(await factory.client(guest))
    return await client.submit(f"/invitations/{make_token(identifier, 1)}/acceptance")


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


# History


async def test_reading_reaches_as_far_back_as_the_plan_and_what_is_older_is_kept(
    factory: Factory, owner: Person, browser: Client
) -> None:
    organization, indicator = home(owner), str(await factory.indicator(home(owner)))
    today = clock.now().replace(minute=0, second=0, microsecond=0)
    old, young = today - timedelta(days=100), today - timedelta(days=80)
    sent = {"readings": [{"at": at.isoformat(), "value": 1} for at in (old, young)]}
    assert (await browser.api("POST", f"/indicators/{indicator}/readings/batch", sent)).json()["added"] == 2
    span = httpx.QueryParams(since=(today - timedelta(days=120)).isoformat(), until=today.isoformat(), step="day")

    async def seen() -> tuple[int, int, list[str | None]]:
        readings = (await browser.api("GET", f"/indicators/{indicator}/readings")).json()
        chart = (await browser.api("GET", f"/indicators/{indicator}/aggregates?{span}")).json()
        return len(readings["items"]), len(chart["buckets"]), [readings["notice"], chart["notice"]]

    sentence = "Your plan (Free) shows the last 90 days. What is older is kept, and a larger plan shows it (/billing)."
    assert await seen() == (1, 1, [sentence] * 2)
    page = await browser.page(f"/indicators/{indicator}?period=year")
    assert page.count(sentence) == 2
    assert (await browser.page(f"/indicators/{indicator}?period=quarter")).count(sentence) == 1, "90 days are included"
    one = await browser.get(f"/indicators/{indicator}/readings/{old:%Y-%m-%dT%H:%M:%SZ}")
    assert (one.status_code, "older than what your plan shows" in one.text) == (403, True)
    await factory.plan(organization, "business")
    readings, buckets, notices = await seen()
    assert (readings, buckets, notices[1]) == (2, 2, None)
    assert await count(factory, "readings", organization) == 2


async def test_the_pages_of_a_list_go_on_within_the_plan(factory: Factory, owner: Person, browser: Client) -> None:
    indicator, now = str(await factory.indicator(home(owner))), clock.now()
    sent = {"readings": [{"at": (now - timedelta(days=20 * n)).isoformat(), "value": n} for n in range(8)]}
    await browser.api("POST", f"/indicators/{indicator}/readings/batch", sent)
    values, cursor = [], ""
    for _ in range(9):
        answer = (await browser.api("GET", f"/indicators/{indicator}/readings?limit=2{cursor}")).json()
        values += [item["value"] for item in answer["items"]]
        assert bool(answer["notice"]) is not answer["has_more"]
        if not answer["has_more"]:
            break
        cursor = f"&cursor={answer['next_cursor']}"
    assert values == [0, 1, 2, 3, 4]


# Requests per minute


async def test_requests_to_the_api_count_by_organization_at_the_plans_rate(
    factory: Factory, owner: Person, browser: Client, stack: AsyncExitStack
) -> None:
    organization = home(owner)
    await factory.plan(organization, "team", limits={Feature.API_PER_MINUTE: 6})
    colleague = await stack.enter_async_context(await factory.client(await factory.person(Role.VIEWER, organization)))
    stranger = await stack.enter_async_context(await factory.client(await factory.person(Role.OWNER)))
    answers = [await (browser, colleague)[n % 2].api("GET", "/indicators") for n in range(10)]
    codes = [answer.status_code for answer in answers]
    # The first counted at the free plan's rate, which is all that the door knew; a slow machine gets one back.
    assert codes[:6] == [200] * 6, codes
    assert codes[-1] == 429, codes
    assert [answer.headers["x-ratelimit-limit"] for answer in answers[1:]] == ["6"] * 9
    assert answers[-1].headers["x-ratelimit-remaining"] == "0"
    told = answers[-1].json()
    assert told["detail"] == "Your plan allows 6 API requests per minute for the whole organization."
    assert "/billing" in told["mend"]
    assert 0 < int(answers[-1].headers["retry-after"]) <= 11, "one comes back every ten seconds"
    assert (await stranger.api("GET", "/indicators")).headers["x-ratelimit-limit"] == "60"
    assert (await browser.get("/indicators")).status_code == 200, "pages are no API"


async def test_a_larger_plan_is_known_from_the_second_request_on(
    factory: Factory, owner: Person, browser: Client
) -> None:
    for key, rates in (("free", ["60", "60"]), ("team", ["60", "300"]), ("free", ["300", "60"])):
        await factory.plan(home(owner), key)
        answers = [await browser.api("GET", "/indicators") for _ in range(2)]
        assert [answer.headers["x-ratelimit-limit"] for answer in answers] == rates, key


# While a payment is due


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
