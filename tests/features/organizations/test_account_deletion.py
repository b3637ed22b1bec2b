"""An account goes only when nobody is left behind without an owner."""

from __future__ import annotations

from service.guardrails.permissions import Role
from tests.features.organizations.conftest import Team

DELETION = "/account/deletion"


async def deleted(team: Team, table: str, identifier: object) -> bool:
    found: bool = await team.superuser.fetchval(f"SELECT deleted_at IS NOT NULL FROM {table} WHERE id = $1", identifier)
    return found


async def test_a_sole_owner_with_others_is_refused_in_a_clear_sentence(team: Team) -> None:
    owner = team.people["owner"]
    name = await team.superuser.fetchval("SELECT name FROM organizations WHERE id = $1", team.organization)
    answer = await team.act(team.owner, DELETION, email=owner.email)
    assert answer.status_code in (409, 422)
    assert f"You are the only owner of {name}" in answer.text
    assert "Make one of them owner on the members page" in answer.text, "the way out stands beside what is wrong"
    assert not await deleted(team, "users", owner.id)
    assert not await deleted(team, "organizations", team.organization)


async def test_another_owner_is_enough(team: Team) -> None:
    await team.factory.person(Role.OWNER, team.organization)
    owner = team.people["owner"]
    assert (await team.act(team.owner, DELETION, email=owner.email)).status_code == 303
    assert await deleted(team, "users", owner.id)
    assert not await deleted(team, "organizations", team.organization)


async def test_an_organization_of_one_goes_with_its_owner_and_can_be_brought_back(team: Team) -> None:
    stranger = team.people["stranger"]
    assert (await team.act(team.stranger, DELETION, email=stranger.email)).status_code == 303
    assert await deleted(team, "organizations", stranger.organization_id)
    await team.superuser.execute(
        "UPDATE users SET deleted_at = NULL, deletion_id = NULL, deleted_by = NULL WHERE id = $1", stranger.id
    )
    back = await team.browser(stranger)
    path = f"/organizations/{stranger.organization_id}/restoration"
    assert path in await back.page("/organizations/new"), "where people without an organization land"
    assert (await back.submit(path, page="/organizations/new")).status_code == 303
    assert not await deleted(team, "organizations", stranger.organization_id)


async def test_two_organizations_one_solo_one_shared_change_nothing_when_refused(team: Team) -> None:
    owner = team.people["owner"]
    async with await team.factory.client(owner) as client:
        assert (await client.submit("/organizations/new", name="Only mine")).status_code == 303
    solo = await team.superuser.fetchval(
        "SELECT organization_id FROM memberships WHERE user_id = $1 AND organization_id <> $2",
        owner.id, team.organization,
    )  # fmt: skip
    await team.act(team.owner, DELETION, email=owner.email)
    assert not await deleted(team, "organizations", solo), "a refused deletion must not have deleted half"
