"""Asking, hour after hour: what is stored, what happens when nothing comes back, and that nobody waits for anybody."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from uuid import uuid4

import pytest

from infra.sandbox.sources.faults import SourceKnobs
from infra.sandbox.sources.github import TOKEN
from infra.sandbox.sources.plausible import KEY
from service.core import clock
from service.core.settings import Settings
from service.features.sources.models import HOUR, Source
from service.integrations.sources.base import Ask, Limited
from service.integrations.sources.systems import Systems
from tests.conftest import Outside
from tests.features.sources.conftest import Team

STOREFRONT = {"repository": "northwind/storefront"}


def test_turns_are_spread_over_the_hour_and_stay_where_they_are() -> None:
    now = clock.now().replace(minute=30)
    sources = [Source(id=uuid4()) for _ in range(600)]
    turns = [source.next_turn(now) for source in sources]
    assert all(now < turn <= now + HOUR for turn in turns)
    assert turns == [source.next_turn(now) for source in sources]
    assert turns[0] + HOUR == sources[0].next_turn(turns[0])
    per_minute = [sum(turn.minute == minute for turn in turns) for minute in range(60)]
    assert max(per_minute) < 30, "six hundred in an hour are ten a minute, not a crowd"


async def test_an_outage_keeps_the_last_value_says_as_of_when_and_passes(team: Team, outside: Outside) -> None:
    source = await team.connect("github", repository="lighthouse/beacon", key="")
    await team.asked(source)
    [before] = await team.readings(source, "stars")
    outside.github.knobs = SourceKnobs(failing=True)
    run = await team.again(source)
    assert (run["outcome"], run["added"]) == ("away", 0)
    row = await team.source(source)
    assert timedelta() < row["next_pull_at"] - clock.now() <= timedelta(minutes=1), "tried again soon"
    tile = (await team.viewer.page("/dashboard")).partition("lighthouse/beacon stars")[2]
    assert "not up to date" in tile
    assert "As of" in tile
    assert "GitHub answered with an error of its own (500)" in tile
    assert "Not answering" in await team.viewer.page("/sources")
    assert await team.readings(source, "stars") == [before], "nothing is made up"
    outside.github.knobs = SourceKnobs()
    await team.again(source)
    assert (await team.source(source))["failures"] == 0
    assert "not up to date" not in await team.viewer.page("/dashboard")


async def test_nothing_new_confirms_the_last_value(team: Team, outside: Outside) -> None:
    source = await team.connect("github", repository="northwind/warehouse", key="")
    await team.asked(source)
    clock.advance(timedelta(minutes=5))
    outside.github.asked.clear()
    assert (await team.again(source))["outcome"] == "stored"
    first, second = await team.readings(source, "stars")
    assert first["value"] == second["value"]
    assert first["at"] < second["at"]


async def test_what_was_missed_is_fetched_and_what_a_person_corrected_stays(team: Team) -> None:
    source = await team.connect("rates", base="EUR", quotes="USD")
    await team.asked(source)
    days = await team.readings(source, "USD")
    kept, lost = days[-8]["at"], [row["at"] for row in days[-5:]]
    await team.member.post(f"/sources/{source}/pause", csrf=team.member.csrf)
    assert "Paused" in await team.viewer.page(f"/sources/{source}")
    assert "Its source is paused." in await team.viewer.page("/dashboard")
    indicator = await team.superuser.fetchval("SELECT indicator_id FROM source_feeds WHERE source_id = $1", source)
    corrected = await team.member.api("PUT", f"/indicators/{indicator}/readings/{kept.isoformat()}", {"value": 9.99})
    assert corrected.status_code == 200, corrected.text
    await team.superuser.execute("DELETE FROM readings WHERE indicator_id = $1 AND at = ANY($2)", indicator, lost)
    await team.superuser.execute("UPDATE source_feeds SET last_at = $2 WHERE source_id = $1", source, days[-9]["at"])
    runs = await team.runs(source)
    await team.member.post(f"/sources/{source}/resume", csrf=team.member.csrf)
    assert (await team.asked(source, runs))["added"] == len(lost)
    again = {row["at"]: row["value"] for row in await team.readings(source, "USD")}
    assert again == {row["at"]: row["value"] for row in days} | {kept: 9.99}


async def test_what_rests_in_the_archive_makes_nobody_ask_for_more(team: Team) -> None:
    source = await team.connect("rates", base="EUR", quotes="USD GBP")
    await team.asked(source)
    days = await team.readings(source, "USD")
    feeds = "SELECT indicator_id FROM source_feeds WHERE source_id = $1 AND series = $2"
    resting, open_ = [await team.superuser.fetchval(feeds, source, series) for series in ("GBP", "USD")]
    await team.member.api("POST", f"/indicators/{resting}/archival")
    older = "UPDATE source_feeds SET last_at = $2 WHERE indicator_id = $1"
    await team.superuser.execute(older, resting, days[-9]["at"])
    gone = "DELETE FROM readings WHERE indicator_id = $1 AND at = $2"
    await team.superuser.execute(gone, open_, days[-6]["at"])
    assert (await team.again(source))["added"] == 0, "it asked for two weeks again, as it would each hour"


async def test_a_withdrawn_key_stops_the_source_and_its_admins_are_told_once(team: Team, outside: Outside) -> None:
    source = await team.connect("plausible", site="shop.northwind.example", key=KEY)
    await team.asked(source)
    outside.plausible.knobs = SourceKnobs(bad_key=True)
    assert (await team.again(source))["outcome"] == "refused"
    asked = len(outside.plausible.asked)
    until = time.monotonic() + 60
    while not team.mailbox.to(team.owner.email):
        assert time.monotonic() < until, "nobody was told"
        await asyncio.sleep(0.05)
    [mail] = team.mailbox.to(team.owner.email)
    assert mail.subject == "shop.northwind.example needs a new key"
    assert KEY not in mail.text
    page = await team.admin.page(f"/sources/{source}")
    assert "Give it another key" in page
    await team.due(source)
    await team.another_round()
    assert len(outside.plausible.asked) == asked, "asking on would look like guessing"
    outside.plausible.knobs = SourceKnobs()
    wrong = await team.admin.submit(f"/sources/{source}/key", key="another-wrong-key")
    assert "does not accept the key" in wrong.text
    runs = await team.runs(source)
    right = await team.admin.submit(f"/sources/{source}/key", key=KEY)
    assert right.status_code == 303
    await team.asked(source, runs)
    assert "Up to date" in await team.viewer.page(f"/sources/{source}")


async def test_who_has_no_token_is_told_that_one_ends_the_wait(settings: Settings, outside: Outside) -> None:
    outside.github.knobs = SourceKnobs(limited=True, limited_for=600)
    systems, now = Systems(settings), clock.now()
    for key, hint in (("", True), ("", True), (TOKEN, False)):
        with pytest.raises(Limited) as limited:
            await systems.ask("github", Ask(STOREFRONT, now.date(), now, key))
        assert ("give this one a token of its own" in str(limited.value)) is hint
    await systems.aclose()


async def test_too_many_is_honoured_also_when_a_person_presses_the_button(team: Team, outside: Outside) -> None:
    source = await team.connect("github", repository="northwind/storefront", key=TOKEN)
    await team.asked(source)
    outside.github.knobs = SourceKnobs(limited=True, limited_for=600)
    assert (await team.again(source))["outcome"] == "limited"
    row = await team.source(source)
    assert timedelta(minutes=9) < row["rest_until"] - clock.now() < timedelta(minutes=11)
    assert row["next_pull_at"] >= row["rest_until"]
    pressed = await team.member.post(f"/sources/{source}/pull", csrf=team.member.csrf)
    page = await team.member.page(pressed.headers["location"])
    assert "asked us to wait until" in page
    assert (await team.source(source))["next_pull_at"] == row["next_pull_at"]


async def test_a_system_that_hangs_delays_only_its_own_sources(team: Team, outside: Outside) -> None:
    outside.github.knobs = SourceKnobs(latency=60)
    hanging = [await team.plant("github", f"northwind/{n}", STOREFRONT, "stars") for n in range(6)]
    until = time.monotonic() + 60
    while sum([(await team.source(one))["lease_token"] is not None for one in hanging]) < 4:
        assert time.monotonic() < until
        await asyncio.sleep(0.05)
    prompt = await team.plant("rates", "EUR to USD", {"base": "EUR", "quotes": ["USD"]}, "USD")
    assert (await team.asked(prompt))["outcome"] == "stored"
    assert [await team.runs(one) for one in hanging] == [0] * 6, "a fifth of another kind waited for four that hang"
    assert sum([(await team.source(one))["lease_token"] is not None for one in hanging]) == 4
    outside.github.knobs = SourceKnobs()
    for one in hanging:
        assert (await team.asked(one))["outcome"] == "stored"


async def test_what_waits_of_one_kind_keeps_no_other_waiting(team: Team) -> None:
    crowd = [await team.factory.source(team.organization, "rates") for _ in range(40)]
    lone = await team.factory.source(team.organization, "github", "northwind/storefront", STOREFRONT)
    await team.superuser.execute(
        "UPDATE sources SET paused_at = NULL, next_pull_at = $3::timestamptz - interval '1 hour' * (id <> $1)::int"
        " WHERE id = $1 OR id = ANY($2)",
        lone, crowd, clock.now(),
    )  # fmt: skip
    await team.asked(lone)
    asked = "SELECT count(*) FROM source_runs WHERE source_id = ANY($1)"
    assert await team.superuser.fetchval(asked, crowd) < 15, "it had to wait for the crowd"


async def test_a_key_that_cannot_be_read_any_more_is_said_and_not_tried_over_and_over(team: Team) -> None:
    source = await team.factory.source(
        team.organization, "github", "northwind/storefront", STOREFRONT, paused_at=None, sealed_key=b"of another ring"
    )
    until = time.monotonic() + 60
    while not (row := await team.source(source))["trouble"]:
        assert time.monotonic() < until, "nobody is told"
        await asyncio.sleep(0.05)
    assert row["next_pull_at"] > clock.now() + timedelta(minutes=5)
    assert "stored key can no longer be read" in await team.viewer.page(f"/sources/{source}")


async def test_what_a_dead_worker_had_taken_is_taken_over(team: Team) -> None:
    source = await team.plant("rates", "EUR to GBP", {"base": "EUR", "quotes": ["GBP"]}, "GBP")
    await team.asked(source)
    await team.superuser.execute(
        "UPDATE sources SET next_pull_at = $2, lease_until = $2, lease_token = gen_random_uuid() WHERE id = $1",
        source, clock.now() - timedelta(seconds=1),
    )  # fmt: skip
    assert (await team.asked(source, 1))["outcome"] == "unchanged"


async def test_a_deleted_organization_asks_nobody_until_it_is_back(team: Team, outside: Outside) -> None:
    gone = "UPDATE organizations SET deleted_at = $2 WHERE id = $1"
    await team.superuser.execute(gone, team.organization, clock.now())
    source = await team.plant("rates", "EUR to SEK", {"base": "EUR", "quotes": ["SEK"]}, "SEK")
    await team.another_round()
    assert await team.runs(source) == 0
    await team.superuser.execute(gone, team.organization, None)
    assert (await team.asked(source))["outcome"] == "stored"


async def test_a_source_without_a_living_indicator_says_so(team: Team) -> None:
    source = await team.connect("rates", base="EUR", quotes="GBP")
    await team.asked(source)
    indicator = await team.superuser.fetchval("SELECT indicator_id FROM source_feeds WHERE source_id = $1", source)
    await team.member.api("DELETE", f"/indicators/{indicator}")
    await team.again(source)
    page = await team.viewer.page(f"/sources/{source}")
    assert "All its indicators are archived or deleted." in page
    assert "Needs attention" in page
    await team.member.api("POST", f"/indicators/{indicator}/restoration")
    await team.again(source)
    assert "All its indicators" not in (await team.viewer.page(f"/sources/{source}")).partition("History")[0]
