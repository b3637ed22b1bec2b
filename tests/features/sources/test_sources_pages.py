"""Connecting, looking, stopping: what people do, and what they are told when it does not work."""

from __future__ import annotations

import asyncio
import html
from uuid import UUID

import pytest

from infra.sandbox.sources.faults import SourceKnobs
from infra.sandbox.sources.github import PRIVATE, TOKEN
from infra.sandbox.sources.plausible import KEY
from service.core.crypto import BadSignature, keyring
from service.guardrails.entitlements import Feature
from tests.conftest import Outside
from tests.features.sources.conftest import Team
from tests.support.locks import WAITING


async def test_a_connected_source_fills_its_indicators_and_their_tiles(team: Team) -> None:
    assert "Connect the first source" in await team.admin.page("/sources")
    assert "Ask an admin" in await team.viewer.page("/sources")
    source = await team.connect("rates", base="eur", quotes="usd gbp")
    assert (await team.asked(source))["outcome"] == "stored"
    days = await team.readings(source, "USD")
    assert 19 <= len(days) <= 23, "thirty days back, working days alone"
    page = await team.viewer.page(f"/sources/{source}")
    assert "EUR to USD, GBP" in page
    assert "new readings" in page
    assert "Pull now" not in page, "a viewer looks"
    dashboard = await team.viewer.page("/dashboard")
    assert "EUR to USD" in dashboard
    assert dashboard.count(f'href="/sources/{source}"') == 2
    indicator = await team.superuser.fetchval("SELECT indicator_id FROM source_feeds WHERE source_id = $1", source)
    assert f'href="/sources/{source}"' in await team.viewer.page(f"/indicators/{indicator}")
    assert "As of" in dashboard
    assert "Up to date" in await team.viewer.page("/sources")


@pytest.mark.parametrize(
    ("kind", "fields", "knob", "sentence"),
    [
        ("rates", {"base": "XXX", "quotes": "USD"}, {}, "has no rates from XXX to USD"),
        ("rates", {"base": "EUR", "quotes": "US dollars"}, {}, "Must be one to 5 codes of three letters"),
        ("rates", {"base": "EUR", "quotes": "EUR"}, {}, "another currency than the first"),
        ("github", {"repository": "nobody/nothing", "key": ""}, {}, "GitHub has no repository nobody/nothing"),
        ("github", {"repository": "../etc/passwd", "key": ""}, {}, "Use the form described beside the field"),
        ("github", {"repository": "northwind/..", "key": ""}, {}, "Use the form described beside the field"),
        ("github", {"repository": PRIVATE, "key": "wrong-token-0815"}, {}, "GitHub does not accept the token"),
        ("plausible", {"site": "northwind.example", "key": "wrong-key-0815"}, {}, "Plausible does not accept the key"),
        ("plausible", {"site": "northwind.example", "key": "two\u00a0words"}, {}, "without spaces; copy it again"),
        ("rates", {"base": "EUR", "quotes": "USD"}, {"outage": True}, "Frankfurter gave no usable answer"),
        # A key of its own: who was limited rests, and all that ask with the same key rest with it.
        ("github", {"repository": "lighthouse/beacon", "key": "key-0815"}, {"limited": True}, "was asked too often"),
    ],
)
async def test_what_does_not_answer_is_not_saved_and_the_reason_is_said(
    team: Team, outside: Outside, kind: str, fields: dict[str, str], knob: dict[str, bool], sentence: str
) -> None:
    getattr(outside, kind).knobs = SourceKnobs(**knob)
    answer = await team.admin.submit(f"/sources/new/{kind}", **fields)
    assert answer.status_code == 422
    assert sentence in html.unescape(answer.text)
    assert "0815" not in answer.text, "a key is never shown again"
    assert "first source" in await team.admin.page("/sources")


async def test_a_key_is_encrypted_for_its_row_and_shown_nowhere(team: Team) -> None:
    source = await team.connect("github", repository=PRIVATE, key=TOKEN)
    other = await team.connect("plausible", site="northwind.example", key=KEY)
    await team.asked(source)
    sealed = (await team.source(source))["sealed_key"]
    assert TOKEN.encode() not in sealed
    assert keyring().decrypt(sealed, f"sources:sealed_key:{source}") == TOKEN.encode()
    with pytest.raises(BadSignature):
        keyring().decrypt(sealed, f"sources:sealed_key:{other}")
    written = await team.superuser.fetch(
        "SELECT changes::text || facts::text AS text FROM audit_log WHERE organization_id = $1", team.organization
    )
    pages = [await team.admin.page(path) for path in (f"/sources/{source}", f"/sources/{source}/key", "/sources")]
    for text in (*pages, *(row["text"] for row in written)):
        assert TOKEN not in text
        assert KEY not in text
        assert sealed.hex() not in text


async def test_the_same_thing_is_connected_once(team: Team) -> None:
    await team.connect("github", repository="northwind/warehouse", key="")
    twin = await team.admin.submit("/sources/new/github", repository="Northwind/Warehouse", key="")
    assert twin.status_code == 422
    assert "is connected already" in twin.text


async def test_known_indicators_are_locked_in_the_order_of_batches(team: Team) -> None:
    """USD, then GBP, as they were typed: a batch for both, which begins with the lower id, would hold one of them."""
    low, high = sorted([await team.factory.indicator(team.organization) for _ in range(2)])
    name = "UPDATE indicators SET name = $2 WHERE id = $1"
    await team.superuser.execute(name, low, "EUR to GBP")
    await team.superuser.execute(name, high, "EUR to USD")
    lock = "SELECT FROM indicators WHERE id = $1 FOR UPDATE NOWAIT"
    async with team.superuser.transaction():
        await team.superuser.execute(lock, low)
        connecting = asyncio.create_task(team.connect("rates", base="EUR", quotes="USD GBP"))
        while not await team.superuser.fetchval(WAITING):
            assert not connecting.done()
            await asyncio.sleep(0.02)
        await team.superuser.execute(lock, high)
    await connecting


async def test_a_deleted_source_leaves_its_indicators_and_can_come_back(team: Team) -> None:
    source = await team.connect("rates", base="EUR", quotes="CHF")
    await team.asked(source)
    readings = len(await team.readings(source, "CHF"))
    gone = await team.admin.post(f"/sources/{source}/delete", csrf=team.admin.csrf)
    assert gone.headers["location"] == "/sources/bin"
    assert "EUR to CHF" in await team.admin.page("/sources/bin")
    dashboard = await team.viewer.page("/dashboard")
    assert "EUR to CHF" in dashboard, "its indicator stays"
    assert f"/sources/{source}" not in dashboard
    back = await team.admin.post(f"/sources/{source}/restore", csrf=team.admin.csrf)
    assert back.status_code == 303
    assert f"/sources/{source}" in await team.viewer.page("/dashboard")
    assert len(await team.readings(source, "CHF")) == readings


async def test_who_connects_it_anew_goes_on_with_the_same_indicator(team: Team) -> None:
    first = await team.connect("rates", base="EUR", quotes="SEK")
    await team.asked(first)
    await team.admin.post(f"/sources/{first}/delete", csrf=team.admin.csrf)
    second = await team.connect("rates", base="EUR", quotes="SEK")
    assert (await team.asked(second))["outcome"] == "unchanged", "what is there already is not stored again"
    indicators = await team.superuser.fetch(
        "SELECT indicator_id FROM source_feeds WHERE source_id = ANY($1)", [first, second]
    )
    assert len({row["indicator_id"] for row in indicators}) == 1
    refused = await team.admin.post(f"/sources/{first}/restore", csrf=team.admin.csrf)
    assert refused.status_code == 409, "its place is taken"


async def test_each_role_does_what_it_may_and_strangers_nothing(team: Team) -> None:
    source = await team.connect("rates", base="EUR", quotes="PLN")
    acts = ("pause", "resume", "pull", "delete", "restore")
    for client, allowed in ((team.viewer, ()), (team.member, ("pause", "resume", "pull"))):
        for act in acts:
            answer = await client.post(f"/sources/{source}/{act}", csrf=client.csrf)
            assert answer.status_code == (303 if act in allowed else 403), f"{act}: {answer.text}"
        assert (await client.get("/sources/new/rates")).status_code == 403
        assert (await client.get(f"/sources/{source}/key")).status_code == 403
    for act in acts:
        assert (await team.stranger.post(f"/sources/{source}/{act}", csrf=team.stranger.csrf)).status_code == 404
    assert (await team.stranger.get(f"/sources/{source}")).status_code == 404


async def test_a_plan_holds_so_many_sources(team: Team) -> None:
    await team.factory.plan(team.organization, limits={Feature.SOURCES: 1})
    await team.connect("rates", base="EUR", quotes="JPY")
    refused = await team.admin.submit("/sources/new/rates", base="EUR", quotes="GBP")
    assert "includes 1 sources, and you have 1" in refused.text
    assert await team.superuser.fetchval(
        "SELECT count(*) FROM indicators WHERE organization_id = $1", team.organization
    ) == 1, "a refused connection leaves no indicator behind"  # fmt: skip


async def test_an_unknown_source_is_not_there(team: Team) -> None:
    assert (await team.admin.get(f"/sources/{UUID(int=1)}")).status_code == 404
    assert (await team.admin.get("/sources/new/weather")).status_code == 404
