"""The JSON API of organizations: pages, keys, problems."""

from __future__ import annotations

import pytest

from tests.features.organizations.conftest import Team

API = "/organizations"


async def test_lists_are_pages_with_cursors(team: Team) -> None:
    first = (await team.viewer.api("GET", f"{API}/current/members?limit=3")).json()
    assert (len(first["items"]), first["has_more"]) == (3, True)
    rest = (await team.viewer.api("GET", f"{API}/current/members?limit=3&cursor={first['next_cursor']}")).json()
    seen = [member["email"] for member in first["items"] + rest["items"]]
    assert sorted(seen) == sorted(person.email for name, person in team.people.items() if name != "stranger")
    assert {member["role"] for member in first["items"] + rest["items"]} == {"owner", "admin", "member", "viewer"}


async def test_a_cursor_of_another_organization_is_refused(team: Team) -> None:
    page = (await team.viewer.api("GET", f"{API}/current/members?limit=3")).json()
    answer = await team.stranger.api("GET", f"{API}/current/members?limit=3&cursor={page['next_cursor']}")
    assert answer.status_code == 422


async def test_create_answers_with_the_new_organization_and_once_per_key(team: Team) -> None:
    key = {"idempotency-key": f"create-{team.organization}"}
    first = await team.viewer.api("POST", API, {"name": "By program"}, **key)
    again = await team.viewer.api("POST", API, {"name": "By program"}, **key)
    assert first.status_code == 201
    assert (first.json()["name"], first.json()["role"]) == ("By program", "owner")
    assert again.json() == first.json()
    mine = (await team.viewer.api("GET", API)).json()["items"]
    assert [item["name"] for item in mine].count("By program") == 1
    current = (await team.viewer.api("GET", f"{API}/current")).json()
    assert current["id"] == str(team.organization), "the session goes on where it was"


async def test_an_invitation_over_the_api_shows_no_token(team: Team) -> None:
    made = await team.admin.api("POST", f"{API}/current/invitations", {"email": "New@Example.com", "role": "viewer"})
    assert made.status_code == 201
    assert set(made.json()) == {"id", "email", "role", "created_at", "expires_at"}
    assert made.json()["email"] == "new@example.com"
    listed = (await team.admin.api("GET", f"{API}/current/invitations")).json()
    assert [item["id"] for item in listed["items"]] == [made.json()["id"]]
    assert (await team.member.api("GET", f"{API}/current/invitations")).status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": "a@example.com"},
        {"email": "a@example.com", "role": "god"},
        {"email": "a@example.com", "role": 40},
        {"email": "a@example.com", "role": "member", "accepted_at": "2026-01-01"},
        {"email": ["a@example.com"], "role": "member"},
    ],
)
async def test_a_wrong_body_names_the_field_and_changes_nothing(team: Team, body: dict[str, object]) -> None:
    answer = await team.admin.api("POST", f"{API}/current/invitations", body)
    assert answer.status_code == 422
    assert answer.json()["errors"]
    assert (await team.admin.api("GET", f"{API}/current/invitations")).json()["items"] == []
