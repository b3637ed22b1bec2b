"""The indicators' pages: dashboard and poll, forms that keep what was typed, the bin."""

from __future__ import annotations

import html
import re
from datetime import timedelta

import pytest

from service.core import clock
from service.features.indicators.queries import TILE_LIMIT
from tests.features.indicators.conftest import Team


async def test_empty_dashboard_says_what_to_do_next(team: Team) -> None:
    page = await team.member.page("/dashboard")
    assert "Create the first indicator" in page
    assert "Create the first indicator" not in await team.viewer.page("/dashboard")
    assert "As of" in page, "an empty dashboard tells its age as well"


async def test_the_dashboard_tells_when_it_shows_only_a_part(team: Team) -> None:
    for n in range(TILE_LIMIT):
        await team.indicator(f"Number {n}")
    assert " shown" not in await team.viewer.page("/dashboard")
    await team.indicator("One too many")
    page = await team.viewer.page("/dashboard")
    assert f'{TILE_LIMIT} of {TILE_LIMIT + 1} shown: <a href="/indicators">' in page
    assert page.count('<li class="tile card">') == TILE_LIMIT


async def test_dashboard_shows_value_change_and_trend(team: Team) -> None:
    identifier = await team.indicator("Orders")
    start = clock.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=90)
    readings = [
        {"at": (start + timedelta(hours=hour)).isoformat(), "value": 10 if hour < 43 else 20} for hour in range(91)
    ]
    sent = await team.member.api("POST", f"/indicators/{identifier}/readings/batch", {"readings": readings})
    assert sent.status_code == 201, sent.text
    page = await team.viewer.page("/dashboard")
    assert "Orders" in page
    assert 'class="spark"' in page
    assert 'class="change"' in page
    board = (await team.viewer.api("GET", "/indicators/dashboard")).json()
    [tile] = board["tiles"]
    assert tile["latest_value"] == 20
    assert 0.9 < tile["change"] <= 1.0
    assert len(tile["trend"]) == 48


async def test_poll_answers_304_until_something_changes(team: Team) -> None:
    identifier = await team.indicator()
    first = await team.viewer.get("/dashboard", headers={"hx-request": "true"})
    assert first.status_code == 200
    assert "<html" not in first.text
    same = await team.viewer.get("/dashboard", headers={"hx-request": "true", "if-none-match": first.headers["etag"]})
    assert (same.status_code, same.text) == (304, "")
    assert int(same.headers["poll-seconds"]) >= 5
    await team.member.api("POST", f"/indicators/{identifier}/readings", {"at": "2026-01-01T00:00:00Z", "value": 1})
    changed = await team.viewer.get("/dashboard", headers={"hx-request": "true", "if-none-match": same.headers["etag"]})
    assert changed.status_code == 200


async def test_one_persons_validator_is_no_other_organizations(team: Team) -> None:
    mine = await team.viewer.get("/dashboard")
    theirs = await team.stranger.get("/dashboard", headers={"if-none-match": mine.headers["etag"]})
    assert theirs.status_code == 200


async def test_a_form_keeps_what_was_typed_and_says_what_is_wrong(team: Team) -> None:
    await team.indicator("Existing")
    taken = await team.member.submit("/indicators/new", name="Existing", description="typed <b>before</b>", unit="EUR")
    assert taken.status_code == 422
    assert "exists already" in taken.text
    assert "typed &lt;b&gt;before&lt;/b&gt;" in taken.text
    long = await team.member.submit("/indicators/new", name="x" * 121, description="", unit="")
    assert long.status_code == 422
    assert 'aria-invalid="true"' in long.text


async def test_a_refused_edit_changes_nothing(team: Team) -> None:
    """The page answers 422 and commits: without abandoning the transaction, half an edit would be stored."""
    await team.indicator("Taken name")
    identifier = await team.indicator("My name")
    path = f"/indicators/{identifier}/edit"
    refused = await team.member.submit(path, name="Taken name", description="half an edit", unit="")
    assert refused.status_code == 422
    read = (await team.viewer.api("GET", f"/indicators/{identifier}")).json()
    assert (read["name"], read["description"]) == ("My name", "")


async def test_what_is_emptied_on_the_page_is_empty(team: Team) -> None:
    """It said "Saved." and kept the old text: an emptied field looked like one that was not sent."""
    identifier = await team.indicator("Emptied")
    path = f"/indicators/{identifier}/edit"
    await team.member.submit(path, name="Emptied", description="a word", unit="EUR")
    assert (await team.member.submit(path, name="Emptied", description="", unit="")).status_code == 303
    read = (await team.viewer.api("GET", f"/indicators/{identifier}")).json()
    assert (read["description"], read["unit"]) == ("", "")
    nameless = await team.member.submit(path, name="", description="", unit="")
    assert nameless.status_code == 422
    assert "Fill in this field." in nameless.text


async def test_add_correct_delete_restore_by_hand(team: Team) -> None:
    identifier = await team.indicator("By hand")
    home = f"/indicators/{identifier}"
    added = await team.member.submit(f"{home}/readings", page=home, at="2026-02-03T04:05", value="12.5")
    assert added.status_code == 303, added.text
    assert "12.5" in await team.viewer.page(home)
    corrected = await team.member.submit(f"{home}/readings/2026-02-03T04:05:00Z", value="13")
    assert corrected.status_code == 303
    assert "corrected" in await team.viewer.page(home)
    deleted = await team.member.submit(f"{home}/delete", page=f"{home}/edit")
    assert deleted.headers["location"] == "/bin"
    assert "By hand" in await team.member.page("/bin")
    restored = await team.member.submit(f"{home}/restore", page="/bin")
    assert restored.headers["location"] == home


async def test_a_reading_of_an_archived_indicator_is_refused_in_its_form(team: Team) -> None:
    identifier = await team.indicator()
    home, path = f"/indicators/{identifier}", f"/indicators/{identifier}/readings/2026-02-03T04:05:00Z"
    await team.member.submit(f"{home}/readings", page=home, at="2026-02-03T04:05", value="12.5")
    await team.member.submit(f"{home}/archive", page=home)
    refused = await team.member.submit(path, value="4711")
    assert refused.status_code == 422
    assert "archived" in refused.text
    assert 'value="4711"' in refused.text


async def test_any_days_by_hour_day_or_week(team: Team) -> None:
    identifier = await team.indicator()
    home = f"/indicators/{identifier}"
    readings = [{"at": f"2026-02-{day:02}T12:00:00Z", "value": day} for day in range(1, 29)]
    await team.member.api("POST", f"/indicators/{identifier}/readings/batch", {"readings": readings})
    page = await team.viewer.page(f"{home}?since=2026-02-03&until=2026-02-05&step=day")
    assert "3 Feb 2026 to 5 Feb 2026" in page
    assert "Mean per day" in page
    assert drawn(page) == ("2026-02-03T00:00:00Z", "2026-02-05T00:00:00Z")
    assert 'value="2026-02-03"' in page
    assert '<option value="day" selected>' in page
    for step, first in (("hour", "2026-02-03T12:00:00Z"), ("week", "2026-02-02T00:00:00Z")):
        page = await team.viewer.page(f"{home}?since=2026-02-03&until=2026-02-09&step={step}")
        assert drawn(page)[0] == first


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("since=2026-02-30&until=2026-03-01&step=day", "Enter a date like"),
        ("since=2026-03-02&until=2026-03-01&step=day", "Must not lie before the first day"),
        ("since=&until=2026-03-01&step=day", "Fill in this field"),
        ("until=2026-03-01", "Fill in this field"),
        ("since=1999-12-31&until=2026-03-01&step=day", "Enter 2000-01-01 or more"),
        ("since=2026-03-01&until=2026-03-01&step=minute", "Choose one of the listed values"),
        ("since=2020-01-01&until=2026-03-01&step=hour", "choose a wider step"),
    ],
)
async def test_wrong_days_come_back_with_the_reason_beside_the_field(team: Team, asked: str, message: str) -> None:
    answer = await team.viewer.get(f"/indicators/{await team.indicator()}?{asked}")
    assert answer.status_code == 422
    assert message in answer.text.partition('class="error"')[2]
    assert "2026-03-01" in answer.text


@pytest.mark.parametrize("asked", ["period=year", "since=2026-02-01&until=2026-02-28&step=day"])
async def test_turning_the_pages_of_the_readings_keeps_the_period(team: Team, asked: str) -> None:
    identifier = await team.indicator()
    readings = [{"at": f"2026-02-01T00:{minute:02}:00Z", "value": 1} for minute in range(60)]
    await team.member.api("POST", f"/indicators/{identifier}/readings/batch", {"readings": readings})
    for _ in range(2):
        page = await team.viewer.page(f"/indicators/{identifier}?{asked}&limit=20")
        [older] = re.findall(r'href="([^"]+)" class="button" rel="next"', page)
        older = html.unescape(older)
        assert older.startswith(f"/indicators/{identifier}?{asked}&cursor=")
        assert (await team.viewer.get(older)).status_code == 200


def drawn(page: str) -> tuple[str, str]:
    """The moments of the chart's first and last point."""
    [(first, last)] = re.findall(r'data-from="([^"]+)" data-to="([^"]+)"', page)
    return first, last


async def test_viewers_get_no_forms(team: Team) -> None:
    identifier = await team.indicator()
    page = await team.viewer.page(f"/indicators/{identifier}")
    assert "Add a reading" not in page
    assert (await team.viewer.get("/indicators/new")).status_code == 403
    assert (await team.viewer.get(f"/indicators/{identifier}/edit")).status_code == 403
