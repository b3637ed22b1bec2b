"""The imports' pages and the files they hand out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest

from service.core import clock
from service.features.imports import queries
from service.features.imports.flows.run import take_turn
from service.features.imports.models import Mode
from tests.features.imports.conftest import Office
from tests.support.client import Client

DAY = timedelta(days=1)


async def test_the_page_shows_how_it_goes_and_what_was_wrong(
    office: Office, member: Client, viewer: Client, stranger: Client
) -> None:
    indicator = await office.indicator("Orders")
    identifier = await office.begin("time,value\n2026-01-01,1\n2026-01-02,x\n", indicator, mode=Mode.GOOD, held=True)
    second = await office.begin("time,value\n", indicator)
    page = await viewer.page(f"/imports/{identifier}")
    assert "It begins in a moment" in page
    assert f'hx-get="/imports/{identifier}"' in page
    assert f"/imports/{identifier}/cancel" not in page
    assert f"/imports/{identifier}/cancel" in await member.page(f"/imports/{identifier}")
    assert "this one begins when that has ended" in await viewer.page(f"/imports/{second}")
    await office.run(identifier)
    fragment = await viewer.get(f"/imports/{identifier}", headers={"hx-request": "true"})
    assert "<html" not in fragment.text
    assert "hx-get" not in fragment.text, "an import that has ended is not asked about again"
    assert "The value is no number" in fragment.text
    verdicts = await viewer.get(f"/downloads/verdicts/{identifier}")
    assert verdicts.headers["content-disposition"] == 'attachment; filename="verdicts-readings.csv"'
    assert verdicts.text.splitlines()[:2] == ["row,verdict,reason", "2,added,"]
    listed = await viewer.page("/imports")
    assert "readings.csv" in listed
    assert "Orders" in listed
    for path in (f"/imports/{identifier}", f"/downloads/verdicts/{identifier}", f"/downloads/readings/{indicator}"):
        assert (await stranger.get(path)).status_code == 404


async def test_a_cancelled_import_stops_and_stores_nothing_more(office: Office, member: Client) -> None:
    indicator = await office.indicator()
    identifier = await office.begin("time,value\n2026-01-01,1\n", indicator, mode=Mode.GOOD, held=True)
    done = await member.submit(f"/imports/{identifier}/cancel", page=f"/imports/{identifier}")
    assert done.status_code == 303
    row = await office.run(identifier)
    assert (row["state"], row["added"]) == ("cancelled", 0)
    again = await member.post(f"/imports/{identifier}/cancel", csrf=member.csrf)
    assert again.status_code == 409


async def test_an_export_runs_nothing_and_comes_back_without_a_change(office: Office, viewer: Client) -> None:
    names = {"=cmd|' /C calc'!A0": -3.25, 'Plain, with “quotes” ""': 1e-7, "'=quoted": 12.0, "A;=B1": 1e15}
    for day, (name, value) in enumerate(names.items()):
        indicator = await office.indicator(name)
        await office.imported(f"time,value\n2026-02-0{day + 1}T01:02:03.000456,{value!r}\n", indicator)
    answer = await viewer.get("/downloads/readings")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="readings.csv"'
    cells = [cell.lstrip('"') for line in answer.text.splitlines()[1:] for cell in line.split(";")]
    assert len(cells) == 5
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    assert '"2026-02-01T01:02:03.000456Z",-3.25\r\n' in answer.text
    back = await office.imported(answer.content, mode=Mode.ALL)
    assert (back["state"], back["added"], back["unchanged"], back["refused"]) == ("done", 0, 4, 0)


async def test_one_indicator_is_exported_in_pieces_as_far_back_as_the_plan_shows(
    office: Office, viewer: Client
) -> None:
    indicator = await office.indicator("Long / one")
    await office.factory.plan(office.organization, limits={"history_days": 30})
    await office.db.execute(
        "INSERT INTO readings (organization_id, indicator_id, at, value)"
        " SELECT $1, $2, $3::timestamptz + n * interval '1 second', n FROM generate_series(1, 12000) n",
        office.organization, indicator, clock.now() - DAY,
    )  # fmt: skip
    await office.db.execute(
        "INSERT INTO readings (organization_id, indicator_id, at, value) VALUES ($1, $2, $3, 1)",
        office.organization, indicator, datetime(2020, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    answer = await viewer.get(f"/downloads/readings/{indicator}")
    assert answer.headers["content-disposition"] == 'attachment; filename="readings-Long-one.csv"'
    lines = answer.text.splitlines()
    assert lines[0] == '"time","value"'
    assert [line.partition(",")[2] for line in lines[1:]] == [f"{n}.0" for n in range(1, 12001)]


async def test_a_whole_organization_that_is_too_large_is_refused_with_the_way_out(
    office: Office, member: Client, viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.imported("time,value\n2026-02-01,1\n2026-02-02,1\n", await office.indicator())
    monkeypatch.setattr(queries, "MOST_EXPORTED", 2)
    assert (await viewer.get("/downloads/readings")).status_code == 200
    monkeypatch.setattr(queries, "MOST_EXPORTED", 1)
    answer = await viewer.get("/downloads/readings")
    assert answer.status_code == 422
    assert "Export the indicators one by one" in answer.text


async def upload(member: Client, content: bytes, name: str = "march.csv", **fields: str) -> httpx.Response:
    sent = {"csrf": member.csrf, "zone": "UTC", "decimal": "point", "mode": "all", **fields}
    headers = {"origin": member.origin}
    files = {"file": (name, content, "text/csv")}
    return await member.http.post("/imports/new", data=sent, files=files, headers=headers)


async def test_a_file_is_uploaded_and_imported(office: Office, member: Client) -> None:
    indicator = await office.indicator("Orders & more")
    form = await member.page(f"/imports/new?indicator={indicator}")
    assert f'<option value="{indicator}" selected>Orders &amp; more</option>' in form
    answer = await upload(member, b"time,value\n2026-03-01,5\n", indicator=str(indicator))
    assert answer.status_code == 303, answer.text
    identifier = UUID(answer.headers["location"].rpartition("/")[2])
    row = await office.run(identifier)
    assert (row["state"], row["added"], row["name"]) == ("done", 1, "march.csv")
    assert "See the chart" in await member.page(f"/imports/{identifier}")
    assert await office.readings(indicator) == [("2026-03-01T00:00", 5)]


async def test_what_is_wrong_with_an_upload_is_said_and_nothing_stays(
    office: Office, member: Client, viewer: Client
) -> None:
    indicator = str(await office.indicator())
    archived = str(await office.indicator(archived_at=clock.now()))
    for fields, sentence in (
        ({"zone": "Europe/Atlantis"}, "Choose one of the listed zones"),
        ({"indicator": archived}, "An archived indicator takes no readings"),
        ({"name": "march.exe"}, "Files of this kind are not taken. Send one of these"),
    ):
        answer = await upload(member, b"time,value\n", **{"indicator": indicator, **fields})
        assert answer.status_code == 422
        assert sentence in answer.text
    assert (await viewer.get("/imports/new")).status_code == 403
    assert await office.db.fetchval("SELECT count(*) FROM imports WHERE organization_id = $1", office.organization) == 0
    binary = await upload(member, b"time,value\n2026-01-01,\0\n" * 400, indicator=indicator)
    assert binary.status_code == 415
    [row] = await office.db.fetch("SELECT * FROM imports WHERE organization_id = $1", office.organization)
    assert row["state"] == "stopped"
    assert "The content is not that of a csv file" in row["remark"]
    assert (await office.run(row["id"]))["object_key"] is None


async def test_an_upload_that_died_with_its_process_is_ended(office: Office) -> None:
    identifier = await office.begin("time,value\n")
    late = "UPDATE imports SET state = 'arriving', created_at = now() - $2::interval WHERE id = $1"
    await office.db.execute(late, identifier, timedelta(minutes=20))
    await take_turn(office.resources, office.maintenance)
    assert (await office.row(identifier))["state"] == "arriving", "it may be on its way still"
    await office.db.execute(late, identifier, timedelta(minutes=40))
    row = await office.run(identifier)
    assert (row["state"], row["object_key"]) == ("stopped", None)
    assert "ended before the file was complete" in row["remark"]
