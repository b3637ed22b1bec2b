"""The JSON API of organizations: what a program may know of its own."""

from __future__ import annotations

from service.guardrails.permissions import Role
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


async def test_a_key_knows_its_organization_and_its_own_role(team: Team) -> None:
    current = (await team.admin.api("GET", f"{API}/current")).json()
    assert (current["id"], current["role"]) == (str(team.organization), Role.ADMIN.label)


async def test_the_invitations_that_wait_show_no_token(team: Team) -> None:
    await team.act(team.admin, "/members/invitations", email="New@Example.com", role="viewer")
    listed = (await team.admin.api("GET", f"{API}/current/invitations")).json()["items"]
    assert [set(item) for item in listed] == [{"id", "email", "role", "created_at", "expires_at"}]
    assert listed[0]["email"] == "new@example.com"
    assert (await team.member.api("GET", f"{API}/current/invitations")).status_code == 403
