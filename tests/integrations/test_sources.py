"""The three adapters against stand-ins that speak the real protocols over sockets, healthy and not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.sandbox.sources.faults import SourceKnobs
from infra.sandbox.sources.github import PRIVATE, TOKEN
from infra.sandbox.sources.plausible import KEY, METRICS, visitors_on
from infra.sandbox.sources.rates import newest, rate, today
from service.core import clock
from service.core.settings import Settings
from service.integrations.http import Answer
from service.integrations.sources.base import (
    LONGEST_REST,
    Ask,
    Away,
    Limited,
    NotThere,
    Pulled,
    SourceFailed,
    WrongKey,
    rests_until,
)
from service.integrations.sources.systems import FAILURES, Systems
from tests.conftest import Outside

RATES = {"base": "EUR", "quotes": ["USD", "GBP"]}
REPOSITORY = {"repository": "northwind/storefront"}
SITE = {"site": "northwind.example"}
ORDINARY: dict[str, dict[str, Any]] = {"rates": RATES, "github": REPOSITORY, "plausible": SITE}


@pytest.fixture
async def systems(settings: Settings) -> AsyncIterator[Systems]:
    made = Systems(settings)
    yield made
    await made.aclose()


@pytest.fixture(autouse=True)
def _healthy(outside: Outside) -> Iterator[None]:
    yield
    for one in (outside.rates, outside.github, outside.plausible):
        one.knobs = SourceKnobs()


def ask(config: dict[str, Any], key: str = "", *, days: int = 14, **options: Any) -> Ask:
    now = clock.now()
    return Ask(config, (now - timedelta(days=days)).date(), now, key, **options)


async def test_rates_come_for_every_working_day_since_the_last_one(systems: Systems) -> None:
    found = await systems.ask("rates", ask(RATES))
    days = [at.date() for at, _ in found.points["USD"]]
    assert days[-1] == newest(today())
    assert all(day.weekday() < 5 for day in days)
    assert len(days) >= 9
    assert dict(found.points["GBP"])[found.points["GBP"][0][0]] == rate(days[0], "EUR", "GBP")
    assert max(at for at, _ in found.points["USD"]) <= clock.now(), "a reading that lies in the future"


async def test_another_base_and_a_weekend_still_have_a_rate(systems: Systems, outside: Outside) -> None:
    found = await systems.ask("rates", ask({"base": "USD", "quotes": ["EUR"]}, days=0))
    [(at, value)] = found.points["EUR"]
    assert (at.date(), value) == (newest(today()), rate(newest(today()), "USD", "EUR"))
    assert outside.rates.asked[-1].startswith(f"GET /v1/{clock.now():%Y-%m-%d}..?base=USD&symbols=EUR")


async def test_a_repository_that_did_not_change_is_a_304_and_free(systems: Systems, outside: Outside) -> None:
    first = await systems.ask("github", ask(REPOSITORY))
    assert set(first.points) == {"stars", "issues"}
    used = dict(outside.github.used)
    again = await systems.ask("github", ask(REPOSITORY, etag=first.etag))
    assert (again.unchanged, again.etag, again.points) == (True, first.etag, {})
    assert outside.github.used == used


async def test_a_private_repository_is_seen_with_its_token_alone(systems: Systems) -> None:
    private = {"repository": PRIVATE}
    assert (await systems.ask("github", ask(private, TOKEN))).points["stars"][0][1] > 0
    with pytest.raises(NotThere, match="needs a token"):
        await systems.ask("github", ask(private))
    with pytest.raises(WrongKey, match="does not accept the token"):
        await systems.ask("github", ask(private, "ghp_guessed"))


async def test_the_primary_limit_is_a_403_and_one_source_speaks_for_all(systems: Systems, outside: Outside) -> None:
    outside.github.used[False] = 60
    try:
        with pytest.raises(Limited) as refused:
            await systems.ask("github", ask(REPOSITORY))
        assert timedelta() < refused.value.until - clock.now() <= timedelta(hours=1, minutes=1)
        asked = len(outside.github.asked)
        with pytest.raises(Limited):
            await systems.ask("github", ask({"repository": "lighthouse/beacon"}))
        assert len(outside.github.asked) == asked, "GitHub bans who goes on asking"
        assert (await systems.ask("github", ask(REPOSITORY, TOKEN))).points, "a token has a limit of its own"
    finally:
        outside.github.used[False] = 0


async def test_days_without_visits_are_zero_and_unfinished_ones_are_left_out(systems: Systems) -> None:
    found = await systems.ask("plausible", ask(SITE, KEY, days=40, first=False))
    visitors = {at.date(): value for at, value in found.points["visitors"]}
    assert all(value == visitors_on(SITE["site"], day) for day, value in visitors.items())
    assert 0.0 in visitors.values(), "the 13th of a month"
    last = max(visitors)
    assert clock.now() - datetime(last.year, last.month, last.day, tzinfo=UTC) >= timedelta(hours=36)
    assert dict(found.points["pageviews"])[datetime(last.year, last.month, last.day, tzinfo=UTC)] == round(
        visitors[last] * METRICS["pageviews"]
    )


async def test_days_before_the_first_visit_ever_are_unknown_and_not_zero(systems: Systems) -> None:
    empty = (clock.now() - timedelta(days=4)).date()
    while empty.day != 13:
        empty -= timedelta(days=1)
    wanted: dict[str, Any] = {"since": empty, "now": clock.now(), "key": KEY}
    new = await systems.ask("plausible", Ask(SITE, first=True, **wanted))
    known = await systems.ask("plausible", Ask(SITE, first=False, **wanted))
    assert new.points["visitors"][0][0].date() == empty + timedelta(days=1)
    assert (known.points["visitors"][0][0].date(), known.points["visitors"][0][1]) == (empty, 0.0)


@pytest.mark.parametrize(
    ("kind", "config", "key", "failure", "words"),
    [
        ("rates", {"base": "XXX", "quotes": ["USD"]}, "", NotThere, "no rates from XXX to USD"),
        ("rates", {"base": "EUR", "quotes": ["USD", "XXX"]}, "", NotThere, "from EUR to XXX"),
        ("github", {"repository": "nobody/nothing"}, "", NotThere, "no repository nobody/nothing"),
        ("plausible", SITE, "guessed", WrongKey, "does not accept the key"),
        ("plausible", {"site": "elsewhere.example"}, KEY, WrongKey, "may not see elsewhere.example"),
    ],
)
async def test_what_is_wrong_is_said_in_a_sentence(
    systems: Systems, kind: str, config: dict[str, Any], key: str, failure: type[SourceFailed], words: str
) -> None:
    with pytest.raises(failure, match=words):
        await systems.ask(kind, ask(config, key))


@pytest.mark.parametrize("kind", ["rates", "github", "plausible"])
@pytest.mark.parametrize(
    ("knob", "failure"),
    [
        ({"failing": True}, Away),
        ({"garbled": True}, Away),
        ({"outage": True}, Away),
        ({"huge": True}, Away),
        ({"limited": True}, Limited),
        ({"bad_key": True}, SourceFailed),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_every_knob_ends_as_a_failure_that_is_named(
    systems: Systems, outside: Outside, kind: str, knob: dict[str, Any], failure: type[SourceFailed]
) -> None:
    getattr(outside, kind).knobs = SourceKnobs(**knob)
    with pytest.raises(failure):
        await systems.ask(kind, ask(ORDINARY[kind], KEY if kind == "plausible" else ""))


async def test_one_that_drips_is_cut_off_by_the_deadline(
    systems: Systems, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.integrations.sources.rates.DEADLINE_SECONDS", 1.5)
    outside.rates.knobs = SourceKnobs(drip=True)
    with pytest.raises(Away, match=r"did not answer within 1\.5 seconds"):
        await systems.ask("rates", ask(RATES))


async def test_after_some_failures_nobody_waits_for_that_system_and_others_are_asked(
    systems: Systems, outside: Outside
) -> None:
    outside.rates.knobs = SourceKnobs(failing=True)
    for _ in range(FAILURES):
        with pytest.raises(Away):
            await systems.ask("rates", ask(RATES))
    asked = len(outside.rates.asked)
    with pytest.raises(Away) as spared:
        await systems.ask("rates", ask(RATES))
    assert spared.value.retry_after > 0
    assert len(outside.rates.asked) == asked
    assert isinstance(await systems.ask("github", ask(REPOSITORY)), Pulled)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "120"}, 120),
        ({"retry-after": "0"}, 30),
        ({"retry-after": "99999999999999"}, LONGEST_REST.total_seconds()),
        ({"retry-after": "Mon, 01 Jun 2026 12:05:00 GMT"}, 300),
        ({"retry-after": "soon"}, 600),
        ({"x-ratelimit-reset": "1780315500"}, 300),
        ({"x-ratelimit-reset": "1"}, 30),
        ({}, 600),
    ],
)
def test_how_long_to_rest_is_believed_within_bounds(headers: dict[str, str], seconds: float) -> None:
    now = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
    assert (rests_until(Answer(429, headers, b""), now) - now).total_seconds() == seconds
