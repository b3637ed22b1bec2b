"""Imports at work: what is stored, what each row is told, and that neither a crash nor a second upload doubles it.

In a database of its own: the suite's worker would take an import between two steps of a test that looks at each.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from service.app import close_resources, create_resources
from service.core.context import Resources
from service.core.database import Database
from service.core.errors import Conflict
from service.core.settings import Settings
from service.features.imports.actions import begin_import
from service.features.imports.flows import claim as claim_of
from service.features.imports.flows import run
from service.features.imports.flows.claim import Lost, claim
from service.features.imports.flows.parse import Parsed, Row
from service.features.imports.flows.run import take_turn
from service.features.imports.models import Mode, State
from service.features.imports.schemas import ImportForm
from tests.features.imports.conftest import Office, open_office
from tests.support.factories import Factory

pytest_plugins = "tests.guardrails.durability"

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
async def alone(own_settings: Settings) -> AsyncIterator[Resources]:
    """What a process has that no worker disturbs."""
    made = create_resources(own_settings)
    yield made
    await close_resources(made)


@pytest.fixture
async def office(own_superuser: asyncpg.Connection[Any], alone: Resources, own_maintenance: Database) -> Office:
    return await open_office(Factory(own_superuser, alone, "http://nobody.invalid"), alone, own_maintenance)


def csv_of(count: int, *, begin: int = 0, value: float = 1.5) -> str:
    rows = (f"{(START + timedelta(minutes=n)).isoformat()},{value + n}\n" for n in range(begin, begin + count))
    return "time,value\n" + "".join(rows)


async def test_good_rows_are_stored_and_bad_ones_told(office: Office) -> None:
    indicator = await office.indicator()
    content = "time,value\n2026-01-01,1\n\n2026-01-02,x\n2026-01-03,3\n2026-01-01,1\n2026-01-03,4\n"
    row = await office.imported(content, indicator)
    assert (row["state"], row["rows"], row["added"], row["unchanged"], row["refused"]) == ("done", 5, 2, 1, 2)
    verdicts = await office.verdicts(row)
    assert {line: verdict for line, (verdict, _) in verdicts.items()} == {
        2: "added", 4: "refused", 5: "added", 6: "unchanged", 7: "refused",
    }  # fmt: skip
    assert "The value is no number" in verdicts[4][1]
    assert "An earlier row of the file has another value" in verdicts[7][1]
    assert await office.readings(indicator) == [("2026-01-01T00:00", 1), ("2026-01-03T00:00", 3)]


async def test_the_same_file_again_and_a_mended_one_store_nothing_twice(office: Office) -> None:
    indicator = await office.indicator()
    await office.imported(csv_of(50), indicator)
    again = await office.imported(csv_of(50), indicator, mode=Mode.ALL)
    assert (again["state"], again["added"], again["unchanged"]) == ("done", 0, 50)
    mended = await office.imported(csv_of(51), indicator)
    assert (mended["added"], mended["unchanged"], mended["refused"]) == (1, 50, 0)
    contradicting = await office.imported("time,value\n2026-01-01,99\n", indicator)
    assert "Another value is stored for this moment" in (await office.verdicts(contradicting))[2][1]
    hours = await office.db.fetchval("SELECT sum(count) FROM reading_hours WHERE indicator_id = $1", indicator)
    assert hours == len(await office.readings(indicator)) == 51


async def test_all_or_nothing_stores_nothing_when_two_rows_far_apart_contradict(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.features.imports.flows.pieces.PIECE", 2_000)
    indicator = await office.indicator()
    refused = await office.imported(csv_of(300) + "2026-01-01,99\n", indicator, mode=Mode.ALL)
    assert (refused["state"], refused["added"], refused["refused"]) == ("refused", 0, 1)
    assert "Nothing was stored" in refused["remark"]
    verdicts = await office.verdicts(refused)
    assert (verdicts[2][0], verdicts[302][0], len(verdicts)) == ("not stored", "refused", 301)
    assert await office.readings(indicator) == []
    assert await office.db.fetchval("SELECT count(*) FROM import_rows WHERE import_id = $1", refused["id"]) == 0
    monkeypatch.setattr(run, "AT_ONCE", 70)
    stored = await office.imported(csv_of(300), indicator, mode=Mode.ALL)
    assert (stored["state"], stored["rows"], stored["added"]) == ("done", 300, 300)
    assert (await office.verdicts(stored))[2][0] == "added"
    assert len(await office.readings(indicator)) == 300


async def test_what_is_stored_meanwhile_is_refused_and_named(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at all rows and the storing of the last somebody else may be quicker: then it says so."""
    monkeypatch.setattr(run, "TURN_SECONDS", 0)  # a turn is one piece, or none of the moving
    indicator = await office.indicator()
    identifier = await office.begin(csv_of(3), indicator, mode=Mode.ALL)
    while (await office.row(identifier))["position"] == 0:
        await take_turn(office.resources, office.maintenance)
    await office.db.execute(
        "INSERT INTO readings (organization_id, indicator_id, at, value) VALUES ($1, $2, $3, 99)",
        office.organization, indicator, START,
    )  # fmt: skip
    monkeypatch.undo()
    row = await office.run(identifier)
    assert (row["state"], row["added"], row["refused"]) == ("done", 2, 1)
    assert "1 rows were not stored" in row["remark"]
    assert "while the file was" in (await office.verdicts(row))[2][1]


async def test_a_worker_that_dies_at_any_piece_loses_and_doubles_nothing(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every turn ends like `kill -9`: before its commit, or after it and without giving the import back."""
    monkeypatch.setattr("service.features.imports.flows.pieces.PIECE", 2_000)
    monkeypatch.setattr(run, "AT_ONCE", 60)
    deaths = 0
    advance = claim_of.advance

    class Killed(BaseException):
        pass

    async def dying(*arguments: Any, **counts: Any) -> None:
        nonlocal deaths
        await advance(*arguments, **counts)
        deaths += 1
        if deaths % 3 == 1:
            raise Killed  # the transaction is open still

    async def never(*_: Any, **__: Any) -> None:
        raise Killed

    monkeypatch.setattr(run, "advance", dying)
    monkeypatch.setattr(run, "give_back", never)
    monkeypatch.setattr(run, "TURN_SECONDS", 0)
    for mode in Mode:
        indicator = await office.indicator()
        identifier = await office.begin(csv_of(200), indicator, mode=mode)
        while (await office.row(identifier))["object_key"] is not None:
            await office.expire(identifier)
            with suppress(Killed):
                await take_turn(office.resources, office.maintenance)
        row = await office.row(identifier)
        assert (row["state"], row["rows"], row["added"], row["unchanged"]) == ("done", 200, 200, 0)
        assert len(await office.verdicts(row)) == 200
        hours = await office.db.fetchval("SELECT sum(count) FROM reading_hours WHERE indicator_id = $1", indicator)
        assert hours == len(await office.readings(indicator)) == 200
    assert deaths > 10


async def test_a_worker_that_wakes_up_late_stores_nothing(office: Office) -> None:
    indicator = await office.indicator()
    identifier = await office.begin(csv_of(5), indicator)
    late = await claim(office.resources, office.maintenance)
    while late is None or late.id != identifier:
        late = await claim(office.resources, office.maintenance)
    await office.expire(identifier)
    row = await office.run(identifier)
    assert row["state"] == "done"
    found = Parsed([Row(2, "", START + timedelta(days=9), 1)])
    with pytest.raises(Lost):
        await run._store(office.resources, late, found, 3, late.size)
    assert len(await office.readings(indicator)) == 5


async def test_a_file_that_fails_each_time_ends_and_says_so(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(run, "parse", broken)
    row = await office.imported(csv_of(1), await office.indicator())
    assert row["state"] == "stopped"
    assert "on our side" in row["remark"]


async def test_one_that_breaks_while_it_is_stored_is_tried_for_hours_and_then_says_so(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "TURN_SECONDS", 0)
    monkeypatch.setattr(run, "AT_ONCE", 1)
    identifier = await office.begin(csv_of(3), await office.indicator(), mode=Mode.ALL)
    while (await office.row(identifier))["added"] == 0:
        await take_turn(office.resources, office.maintenance)

    async def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(run, "append", broken)
    monkeypatch.setattr(run, "TURN_SECONDS", 5)
    for attempts in (0, 15, run.ATTEMPTS_TO_STORE - 1):
        await office.expire(identifier)
        await office.db.execute("UPDATE imports SET attempts = $2 WHERE id = $1", identifier, attempts)
        await take_turn(office.resources, office.maintenance)
        waits = await office.db.fetchval("SELECT leased_until - now() FROM imports WHERE id = $1", identifier)
        assert timedelta() < waits <= timedelta(minutes=5)
    row = await office.run(identifier)
    assert (row["state"], row["added"]) == ("stopped", 1)
    assert "only some rows are stored" in row["remark"]
    assert {verdict for verdict, _ in (await office.verdicts(row)).values()} == {"not known"}
    assert await office.db.fetchval("SELECT count(*) FROM import_rows WHERE import_id = $1", identifier) == 0


@pytest.mark.parametrize(
    ("content", "state", "sentence"),
    [
        ("", State.REFUSED, "The file is empty"),
        ("zeit,wert\n2026-01-01,1\n", State.REFUSED, "It names none of them"),
        ("time,value\n", State.DONE, ""),
    ],
)
async def test_files_without_rows(office: Office, content: str, state: State, sentence: str) -> None:
    row = await office.imported(content, await office.indicator())
    assert (row["state"], row["rows"]) == (state, 0)
    assert sentence in row["remark"]


async def test_several_indicators_by_name(office: Office) -> None:
    told = await office.paused_endpoint()
    one, two = await office.indicator("Orders"), await office.indicator("=Sum")
    await office.indicator("Old", archived_at=START)
    content = (
        "\ufeffindicator;time;value\norders;2026-01-01;1,5\n'=Sum;2026-01-01;2\nOld;2026-01-01;1\nNew;2026-01-01;1\n"
    )
    row = await office.imported(content, decimal="comma")
    verdicts = await office.verdicts(row)
    assert [verdicts[line][0] for line in (2, 3, 4, 5)] == ["added", "added", "refused", "refused"]
    assert "archived" in verdicts[4][1]
    assert "no indicator of this name" in verdicts[5][1]
    assert (await office.readings(one), await office.readings(two)) == (
        [("2026-01-01T00:00", 1.5)], [("2026-01-01T00:00", 2)],
    )  # fmt: skip
    data = json.loads(await office.db.fetchval("SELECT payload FROM webhook_deliveries WHERE endpoint_id = $1", told))
    assert data["type"] == "readings.added", "one message for the whole file"
    assert data["data"] == {
        "organization_id": str(office.organization), "indicator_ids": sorted([str(one), str(two)]), "added": 2,
    }  # fmt: skip
    latest = await office.db.fetchval("SELECT latest_value FROM indicators WHERE id = $1", one)
    assert latest == 1.5


async def test_too_many_wrong_rows_end_the_reading(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "MOST_REFUSED", 10)
    monkeypatch.setattr("service.features.imports.flows.pieces.PIECE", 100)
    row = await office.imported("time,value\n" + "x,y\n" * 200, await office.indicator())
    assert row["state"] == "stopped"
    assert row["rows"] < 50
    assert "rows are wrong, so reading stopped" in row["remark"]


async def test_one_at_a_time_per_organization_and_five_at_most(office: Office) -> None:
    indicator = await office.indicator()
    first, second = [await office.begin(csv_of(1, begin=n), indicator) for n in range(2)]
    await office.db.execute("UPDATE imports SET leased_until = now() + interval '1 hour' WHERE id = $1", first)
    for _ in range(3):
        await take_turn(office.resources, office.maintenance)
    assert (await office.row(second))["state"] == "waiting"
    for n in range(2):
        await office.begin(csv_of(1, begin=n), indicator)
    async with office.acting() as ctx:
        last = await begin_import(ctx, ImportForm(indicator=indicator), "last.csv")
        one_more = asyncio.create_task(office.begin(csv_of(1), indicator))
        done, _ = await asyncio.wait({one_more}, timeout=0.3)
        assert not done, "two at once are counted one after the other"
    with pytest.raises(Conflict, match="5 imports of your organization wait"):
        await one_more
    await office.db.execute("UPDATE imports SET object_key = NULL WHERE id = $1", last.id)
    await office.run(first)
    assert (await office.run(second))["state"] == "done"


async def test_what_is_owed_or_deleted_stops_an_import(office: Office) -> None:
    indicator = await office.indicator()
    owing = await office.begin(csv_of(3), indicator)
    await office.factory.plan(office.organization, full_until=START)
    row = await office.run(owing)
    assert (row["state"], row["added"]) == ("stopped", 0)
    assert "payment is due" in row["remark"]
    await office.factory.plan(office.organization, full_until=None)
    orphan = await office.begin(csv_of(3), indicator)
    await office.db.execute("UPDATE organizations SET deleted_at = now() WHERE id = $1", office.organization)
    row = await office.run(orphan)
    assert (row["state"], row["added"], row["object_key"]) == ("cancelled", 0, None)


async def test_one_line_of_the_audit_log_per_import(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.features.imports.flows.pieces.PIECE", 200)
    row = await office.imported(csv_of(60), await office.indicator())
    entries = await office.db.fetch(
        "SELECT action, facts FROM audit_log WHERE organization_id = $1 ORDER BY id", office.organization
    )
    assert [entry["action"] for entry in entries] == ["imports.begin", "imports.receive", "imports.finish"]
    assert '"added": 60' in entries[2]["facts"]
    assert row["rows"] == 60
