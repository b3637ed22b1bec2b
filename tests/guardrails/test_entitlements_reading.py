"""How far back a plan reads, and how many requests a minute it allows."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import timedelta

import httpx

from service.core import clock
from service.guardrails.entitlements import Feature
from service.guardrails.permissions import Role
from tests.guardrails.plans_at_work import count, home
from tests.support.client import Client
from tests.support.factories import Factory, Person


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


async def test_requests_to_the_api_count_by_organization_at_the_plans_rate(
    factory: Factory, owner: Person, browser: Client, stack: AsyncExitStack
) -> None:
    organization = home(owner)
    await factory.plan(organization, "team", limits={Feature.API_PER_MINUTE: 6})
    colleague = await stack.enter_async_context(await factory.client(await factory.person(Role.VIEWER, organization)))
    stranger = await stack.enter_async_context(await factory.client(await factory.person(Role.OWNER)))
    answers = [await (browser, colleague)[n % 2].api("GET", "/indicators") for n in range(12)]
    codes = [answer.status_code for answer in answers]
    # The first of each key counted by its address alone, which is all that the door knew; a slow machine gets one back.
    assert codes[:8] == [200] * 8, codes
    assert codes[-1] == 429, codes
    assert [answer.headers["x-ratelimit-limit"] for answer in answers[2:]] == ["6"] * 10
    assert answers[-1].headers["x-ratelimit-remaining"] == "0"
    told = answers[-1].json()
    assert told["detail"] == "Your plan allows 6 API requests per minute for the whole organization."
    assert "/billing" in told["mend"]
    assert 0 < int(answers[-1].headers["retry-after"]) <= 11, "one comes back every ten seconds"
    others = [await stranger.api("GET", "/indicators") for _ in range(2)]
    assert others[1].headers["x-ratelimit-limit"] == "60"
    assert (await browser.get("/indicators")).status_code == 200, "pages are no API"


async def test_a_larger_plan_is_known_from_the_second_request_on(
    factory: Factory, owner: Person, browser: Client
) -> None:
    await browser.api("GET", "/indicators")
    for key, rates in (("free", ["60", "60"]), ("team", ["60", "300"]), ("free", ["300", "60"])):
        await factory.plan(home(owner), key)
        answers = [await browser.api("GET", "/indicators") for _ in range(2)]
        assert [answer.headers["x-ratelimit-limit"] for answer in answers] == rates, key
