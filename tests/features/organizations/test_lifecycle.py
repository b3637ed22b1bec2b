"""Organizations are made, chosen, deleted and brought back."""

from __future__ import annotations

import re
from datetime import timedelta

from service.core import clock
from service.features.organizations.actions import MOST_OWNED
from tests.features.organizations.conftest import Team
from tests.support.factories import Factory


async def test_somebody_without_an_organization_makes_one_and_works_in_it(team: Team) -> None:
    newcomer = await team.browser(await team.factory.person())
    answer = await newcomer.get("/members")
    assert answer.headers["location"].startswith("/organizations/new")
    before = dict(newcomer.http.cookies)
    answer = await newcomer.submit("/organizations/new", name="Fresh Start")
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard")
    assert dict(newcomer.http.cookies)["sid"] != before["sid"], "more rights need a new session id"
    members = await newcomer.page("/members")
    assert "Fresh Start" in members
    assert "Owner" in members


async def test_switch_changes_the_session_and_is_remembered(team: Team) -> None:
    person = team.people["member"]
    other = await team.factory.organization("Second Home")
    await team.superuser.execute(
        "INSERT INTO memberships (id, organization_id, user_id, role, created_at)"
        " VALUES (gen_random_uuid(), $1, $2, 'viewer', now())",
        other,
        person.id,
    )
    before = dict(team.member.http.cookies)
    answer = await team.member.submit(f"/organizations/{other}/switch", page="/organizations")
    assert answer.status_code == 303
    assert dict(team.member.http.cookies)["sid"] != before["sid"]
    assert "Second Home" in await team.member.page("/organization")
    last = await team.superuser.fetchval("SELECT last_organization_id FROM users WHERE id = $1", person.id)
    assert last == other


async def test_a_form_of_the_other_organization_does_not_act_in_this_one(team: Team) -> None:
    """Two tabs: the form opened before the switch carries the other organization's token."""
    old = team.owner.csrf
    await team.owner.submit("/organizations/new", name="Another one of mine")
    answer = await team.owner.post("/organization", csrf=old, name="Renamed by mistake")
    assert answer.status_code == 403
    assert "Another one of mine" in await team.owner.page("/organization")


async def test_deletion_needs_the_name_and_can_be_undone(team: Team) -> None:
    name = await team.superuser.fetchval("SELECT name FROM organizations WHERE id = $1", team.organization)
    wrong = await team.owner.submit("/organization/deletion", name=name.lower())
    assert wrong.status_code == 422
    assert "not the name of the organization" in wrong.text
    assert (await team.member.get("/members")).status_code == 200

    gone = await team.owner.submit("/organization/deletion", name=name)
    assert (gone.status_code, gone.headers["location"]) == (303, "/organizations")
    for client in (team.owner, team.admin, team.viewer):
        assert (await client.get("/members")).headers["location"].startswith("/organizations/new")
    assert name in await team.owner.page("/organizations")
    assert name not in await team.admin.page("/organizations"), "only its owners can bring it back"

    refused = await team.act(team.admin, f"/organizations/{team.organization}/restoration")
    assert refused.status_code == 404
    back = await team.owner.submit(f"/organizations/{team.organization}/restoration", page="/organizations")
    assert back.status_code == 303
    assert team.people["viewer"].email in await team.owner.page("/members")
    assert (await team.viewer.get("/members")).status_code == 200


async def test_after_thirty_days_there_is_nothing_to_restore(team: Team) -> None:
    name = await team.superuser.fetchval("SELECT name FROM organizations WHERE id = $1", team.organization)
    await team.owner.submit("/organization/deletion", name=name)
    clock.advance(timedelta(days=30, minutes=1))
    later = await team.browser(team.people["owner"])
    assert name not in await later.page("/organizations")
    csrf = re.search(r'name="csrf" value="([^"]+)"', await later.page("/organizations"))
    assert csrf is not None
    assert (await later.post(f"/organizations/{team.organization}/restoration", csrf=csrf[1])).status_code == 404


async def test_nobody_collects_organizations_without_end(factory: Factory) -> None:
    person = await factory.person()
    async with await factory.client(person) as client:
        for number in range(MOST_OWNED):
            made = await client.submit("/organizations/new", name=f"Number {number}")
            assert made.status_code == 303
        refused = await client.submit("/organizations/new", name="One too many")
    assert refused.status_code == 422
    assert "already own" in refused.text
