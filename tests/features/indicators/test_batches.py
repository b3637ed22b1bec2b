"""Batches: each reading has its verdict, nothing is half applied without saying so, and nobody else waits for one."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from service.core import startup
from service.features.indicators.schemas.batches import BATCH_LIMIT, Mode, ReadingBatch, judge
from tests.features.indicators.conftest import Team
from tests.support.apart import apart

START = datetime(2026, 1, 1, tzinfo=UTC)


def readings(many: int, value: float = 1.5) -> list[dict[str, Any]]:
    return [{"at": (START + timedelta(seconds=n)).isoformat(), "value": value + n} for n in range(many)]


async def send(team: Team, identifier: str, given: list[Any], mode: str | None = None) -> httpx.Response:
    body = {"readings": given} | ({"mode": mode} if mode else {})
    return await team.member.api("POST", f"/indicators/{identifier}/readings/batch", body)


async def stored(team: Team, identifier: str) -> int:
    found = await team.factory.superuser.fetchval("SELECT count(*) FROM readings WHERE indicator_id = $1", identifier)
    summary = await team.factory.superuser.fetchval(
        "SELECT coalesce(sum(count), 0) FROM reading_hours WHERE indicator_id = $1", identifier
    )
    assert found == summary, "the hours say something else than the readings"
    return int(found)


BAD: list[tuple[Any, str, str]] = [
    ({"at": "2026-02-01T00:00:00Z", "value": "much"}, "value", "Enter a number"),
    ({"at": "2026-02-01T00:00:01Z", "value": True}, "value", "Enter a number"),
    ({"at": "2026-02-01T00:00:02Z"}, "value", "Fill in"),
    ({"at": "2026-02-01T00:00:03", "value": 1}, "at", "offset"),
    ({"at": "1999-12-31T23:59:59Z", "value": 1}, "at", "2000"),
    ({"at": "2026-02-01T00:00:04Z", "value": 1e300}, "value", "or less"),
    ({"at": "2026-02-01T00:00:05Z", "value": 1, "secret": 1}, "", "Unknown fields"),
    (7, "", ""),
    ({"at": START.isoformat(), "value": 9}, "at", "reading 0 of this batch"),
]


async def test_one_bad_reading_of_ten_thousand_is_named_and_nothing_is_stored(team: Team) -> None:
    identifier = await team.indicator()
    given = readings(BATCH_LIMIT)
    given[7_123] = {"at": given[7_123]["at"], "value": "much"}
    refused = await send(team, identifier, given)
    assert refused.status_code == 422, refused.text
    assert [error["field"] for error in refused.json()["errors"]] == ["readings.7123.value"]
    assert "1 of 10,000" in refused.json()["detail"]
    assert await stored(team, identifier) == 0


async def test_each_reading_has_its_verdict(team: Team) -> None:
    """Where bad ones are skipped the answer says which, and why; a retry of the whole batch adds nothing."""
    identifier = await team.indicator()
    await send(team, identifier, [readings(4)[2], {**readings(4)[3], "value": 99}])
    given = [*readings(4), *(bad for bad, _, _ in BAD)]
    answer = await send(team, identifier, given, "skip_bad")
    assert answer.status_code == 201, answer.text
    verdict = answer.json()
    assert (verdict["added"], verdict["unchanged"], verdict["refused"]) == (2, 1, 10)
    assert verdict["unchanged_indexes"] == [2]
    assert verdict["refused_indexes"] == [3, *range(4, 4 + len(BAD))]
    contradicted, *others = verdict["refusals"]
    assert (contradicted["index"], contradicted["field"]) == (3, "value")
    for index, ((_, field, words), told) in enumerate(zip(BAD, others, strict=True), 4):
        assert (told["index"], told["field"]) == (index, field)
        assert words in told["message"]
    assert await stored(team, identifier) == 4
    again = (await send(team, identifier, given, "skip_bad")).json()
    assert (again["added"], again["unchanged"], again["refused"]) == (0, 3, 10)


async def test_contradictions_are_named_by_index_and_nothing_is_stored(team: Team) -> None:
    identifier = await team.indicator()
    await send(team, identifier, [readings(6)[4]])
    given = readings(6)
    given[4]["value"] = 0
    refused = await send(team, identifier, given)
    assert refused.status_code == 409
    assert [error["field"] for error in refused.json()["errors"]] == ["readings.4.value"]
    assert await stored(team, identifier) == 1


async def test_a_thousand_bad_readings_are_counted_and_a_hundred_explained(team: Team) -> None:
    identifier = await team.indicator()
    given = [{"at": "never", "value": 1}] * 1_000 + readings(10)
    refused = await send(team, identifier, given)
    assert len(refused.json()["errors"]) == 100
    assert "1,000 of 1,010" in refused.json()["detail"]
    answer = (await send(team, identifier, given, "skip_bad")).json()
    assert (answer["added"], answer["refused"], len(answer["refusals"])) == (10, 1_000, 100)
    assert len(answer["refused_indexes"]) == 1_000


@pytest.mark.parametrize("given", [[], readings(1) * (BATCH_LIMIT + 1), {"at": 1}, None])
async def test_a_batch_of_no_or_of_too_many_readings_is_refused_as_a_whole(team: Team, given: Any) -> None:
    for mode in Mode:
        refused = await send(team, await team.indicator(), given, mode)
        assert refused.status_code == 422
        assert [error["field"] for error in refused.json()["errors"]] == ["readings"]


async def test_a_mixed_batch_reaches_each_of_its_indicators_and_nobody_elses(team: Team) -> None:
    one, two, archived = [await team.indicator() for _ in range(3)]
    foreign = str(await team.factory.indicator(await team.factory.organization()))
    await team.member.api("POST", f"/indicators/{archived}/archival")
    at = START.isoformat()
    given = [{"indicator_id": each, "at": at, "value": 1} for each in (one, two, archived, foreign, str(uuid4()))]
    refused = await team.member.api("POST", "/indicators/readings/batch", {"readings": given})
    assert refused.status_code == 409
    named = [error["field"] for error in refused.json()["errors"]]
    assert named == [f"readings.{index}.indicator_id" for index in (2, 3, 4)]
    assert await stored(team, one) == 0
    answer = await team.member.api("POST", "/indicators/readings/batch", {"readings": given, "mode": "skip_bad"})
    verdict = answer.json()
    assert (answer.status_code, verdict["added"], verdict["refused_indexes"]) == (201, 2, [2, 3, 4])
    assert "archived" in verdict["refusals"][0]["message"]
    assert verdict["refusals"][1]["message"] == verdict["refusals"][2]["message"] == "There is no such indicator."
    assert [await stored(team, each) for each in (one, two, archived, foreign)] == [1, 1, 0, 0]
    latest = (await team.viewer.api("GET", f"/indicators/{two}")).json()
    assert latest["latest_value"] == 1


async def test_an_archived_indicator_takes_no_batch(team: Team) -> None:
    identifier = await team.indicator()
    await team.member.api("POST", f"/indicators/{identifier}/archival")
    for mode in Mode:
        assert (await send(team, identifier, readings(2), mode)).status_code == 409


async def longest_wait(bad: bool) -> float:
    given: list[Any] = [{"at": "never", "value": None}] * BATCH_LIMIT if bad else readings(BATCH_LIMIT)
    await judge(ReadingBatch(readings=given[:1]))  # what Python and its libraries do once in a process
    startup.freeze_startup_objects()
    judging = asyncio.ensure_future(judge(ReadingBatch(readings=given)))
    longest, before, turns = 0.0, time.process_time(), 0
    while not judging.done():
        await asyncio.sleep(0)
        now = time.process_time()
        longest, before, turns = max(longest, now - before), now, turns + 1
    assert len((await judging).refused) == (BATCH_LIMIT if bad else 0)
    assert turns >= 15
    return longest


@pytest.mark.parametrize("bad", [False, True])
async def test_judging_ten_thousand_readings_lets_everybody_else_have_a_turn(bad: bool) -> None:
    """The longest that others wait, in time of a process that does nothing else: a busy neighbour does not count."""
    longest = await apart(longest_wait, bad)
    assert longest < 0.02, f"{longest * 1000:.0f} ms"
