"""The indicators' API: each verb, each rule, and what other organizations see of it (nothing)."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from tests.features.indicators.conftest import Team


async def test_create_read_update(team: Team) -> None:
    made = await team.member.api("POST", "/indicators", {"name": "Sign-ups", "unit": "people"})
    assert made.status_code == 201, made.text
    path = f"/indicators/{made.json()['id']}"
    changed = await team.member.api("PATCH", path, {"description": "New accounts per hour"})
    assert changed.status_code == 200
    read = (await team.viewer.api("GET", path)).json()
    assert (read["name"], read["unit"], read["description"]) == ("Sign-ups", "people", "New accounts per hour")


async def test_a_name_is_taken_once_per_organization_whatever_its_case(team: Team) -> None:
    await team.indicator("Revenue")
    twin = await team.member.api("POST", "/indicators", {"name": "REVENUE"})
    assert twin.status_code == 409
    assert twin.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in twin.json()["errors"]] == ["name"]
    elsewhere = await team.stranger.api("POST", "/indicators", {"name": "Revenue"})
    assert elsewhere.status_code == 201


async def test_two_creations_of_one_name_at_once_make_one(team: Team) -> None:
    answers = await asyncio.gather(*(team.member.api("POST", "/indicators", {"name": "Race"}) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409, 409]


async def test_a_foreign_id_answers_exactly_like_a_random_one(team: Team) -> None:
    identifier = await team.indicator()
    for method, suffix, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "Mine now"}),
        ("DELETE", "", None),
        ("POST", "/archival", None),
        ("GET", "/readings", None),
        ("POST", "/readings", {"at": "2026-01-01T00:00:00Z", "value": 1}),
        ("GET", "/aggregates?since=2026-01-01T00:00:00Z&until=2026-01-02T00:00:00Z", None),
    ):
        foreign = await team.stranger.api(method, f"/indicators/{identifier}{suffix}", body)
        random = await team.stranger.api(method, f"/indicators/{uuid4()}{suffix}", body)
        assert foreign.status_code == random.status_code == 404, f"{method} {suffix}: {foreign.text}"
        assert _without_request(foreign.json()) == _without_request(random.json())


def _without_request(problem: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in problem.items() if name not in ("request_id", "instance")}


async def test_viewers_read_and_do_not_write(team: Team) -> None:
    identifier = await team.indicator()
    assert (await team.viewer.api("GET", f"/indicators/{identifier}")).status_code == 200
    assert (await team.viewer.api("POST", "/indicators", {"name": "No"})).status_code == 403
    assert (await team.viewer.api("DELETE", f"/indicators/{identifier}")).status_code == 403


async def test_unknown_fields_are_refused(team: Team) -> None:
    sneaky = await team.member.api("POST", "/indicators", {"name": "A", "organization_id": str(uuid4())})
    assert sneaky.status_code == 422
    assert sneaky.json()["errors"] == [{"field": "body", "message": "Unknown fields are refused."}]


async def test_archived_indicator_rejects_new_readings(team: Team) -> None:
    identifier = await team.indicator()
    assert (await team.member.api("POST", f"/indicators/{identifier}/archival")).status_code == 201
    refused = await team.member.api("POST", f"/indicators/{identifier}/readings", reading(0, 1))
    assert refused.status_code == 409
    assert (await team.member.api("DELETE", f"/indicators/{identifier}/archival")).status_code == 200
    assert (await team.member.api("POST", f"/indicators/{identifier}/readings", reading(0, 1))).status_code == 201


async def test_delete_and_restore_bring_back_the_readings(team: Team) -> None:
    identifier = await team.indicator("Comes back")
    await team.member.api("POST", f"/indicators/{identifier}/readings", reading(1, 5))
    assert (await team.member.api("DELETE", f"/indicators/{identifier}")).status_code == 204
    assert (await team.viewer.api("GET", f"/indicators/{identifier}")).status_code == 404
    assert identifier in (await team.member.api("GET", "/indicators/bin")).text
    assert identifier not in (await team.member.api("GET", "/indicators")).text
    restored = await team.member.api("POST", f"/indicators/{identifier}/restoration")
    assert restored.status_code == 201, restored.text
    assert restored.json()["latest_value"] == 5
    assert len((await team.viewer.api("GET", f"/indicators/{identifier}/readings")).json()["items"]) == 1


async def test_restore_says_when_the_name_was_taken_meanwhile(team: Team) -> None:
    identifier = await team.indicator("Taken")
    await team.member.api("DELETE", f"/indicators/{identifier}")
    await team.indicator("Taken")
    refused = await team.member.api("POST", f"/indicators/{identifier}/restoration")
    assert refused.status_code == 409
    assert refused.json()["detail"]


def reading(hour: int, value: float) -> dict[str, object]:
    return {"at": f"2026-01-01T{hour:02}:30:00Z", "value": value}


async def test_sending_a_reading_twice_changes_nothing(team: Team) -> None:
    path = f"/indicators/{await team.indicator()}/readings"
    first = await team.member.api("POST", path, reading(0, 1.5))
    again = await team.member.api("POST", path, reading(0, 1.5))
    assert (first.json(), again.json()) == ({"added": 1, "unchanged": 0}, {"added": 0, "unchanged": 1})


async def test_aggregates_are_right_after_appends_and_corrections_at_once(team: Team) -> None:
    """Summaries are kept in the same transaction: concurrent batches for one hour must all count."""
    identifier = await team.indicator()
    path = f"/indicators/{identifier}/readings"
    batches = [
        {"readings": [{"at": f"2026-03-01T10:{minute:02}:{batch:02}Z", "value": batch + 1} for minute in range(10)]}
        for batch in range(8)
    ]
    answers = await asyncio.gather(*(team.member.api("POST", f"{path}/batch", batch) for batch in batches))
    assert [answer.status_code for answer in answers] == [201] * 8
    correction = await team.member.api("PUT", f"{path}/2026-03-01T10:00:00Z", {"value": 101})
    assert correction.status_code == 200
    asked = f"/indicators/{identifier}/aggregates?since=2026-03-01T00:00:00Z&until=2026-03-02T00:00:00Z&step="
    [bucket] = (await team.viewer.api("GET", f"{asked}hour")).json()["buckets"]
    total = 10 * sum(range(1, 9)) + 100
    assert (bucket["count"], bucket["low"], bucket["high"]) == (80, 1, 101)
    assert abs(bucket["mean"] - total / 80) < 1e-9
    assert (await team.viewer.api("GET", f"{asked}week")).json()["buckets"][0]["count"] == 80


async def test_a_range_with_too_many_buckets_is_refused_with_a_way_out(team: Team) -> None:
    path = f"/indicators/{await team.indicator()}/aggregates?since=2001-01-01T00:00:00Z&until=2026-01-01T00:00:00Z"
    refused = await team.viewer.api("GET", f"{path}&step=hour")
    assert refused.status_code == 422
    assert "wider" in refused.text
    assert (await team.viewer.api("GET", f"{path}&step=week")).status_code == 200


async def test_search_finds_words_and_beginnings_and_nothing_else(team: Team) -> None:
    await team.member.api("POST", "/indicators", {"name": "Monthly revenue", "description": "Invoices paid in euro"})
    await team.member.api("POST", "/indicators", {"name": "Open tickets", "description": "Support load"})
    await team.stranger.api("POST", "/indicators", {"name": "Monthly revenue of others"})

    async def names(q: str) -> list[str]:
        answer = await team.viewer.http.get("/api/v1/indicators", params={"q": q}, headers=team.viewer.bearer)
        assert answer.status_code == 200, f"{q!r}: {answer.text}"
        return [item["name"] for item in answer.json()["items"]]

    assert await names("reven") == ["Monthly revenue"]
    assert await names("EURO month") == ["Monthly revenue"]
    assert await names("venue") == []
    assert await names("ticket invoices") == []
    for hostile in ("'; DROP TABLE indicators; --", "%", "a & | ! :* <-> b", "\\", "()", "'" * 50, "\u202e", "🙂"):
        assert isinstance(await names(hostile), list)
    assert len(await names("'; -- ")) == 2


async def test_search_follows_a_renaming(team: Team) -> None:
    made = (await team.member.api("POST", "/indicators", {"name": "Before"})).json()
    await team.member.api("PATCH", f"/indicators/{made['id']}", {"name": "Afterwards"})
    assert (await team.viewer.api("GET", "/indicators?q=before")).json()["items"] == []
    assert len((await team.viewer.api("GET", "/indicators?q=after")).json()["items"]) == 1
