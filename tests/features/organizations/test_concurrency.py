"""Two people at the same moment, over real HTTP: what must not happen twice, or to nobody, does not."""

from __future__ import annotations

import asyncio

import pytest

from service.core.crypto import new_token
from service.features.organizations.models import make_token
from service.guardrails.permissions import Role
from tests.features.organizations.conftest import Team

ROUNDS = 5


@pytest.mark.parametrize("how", ["leave", "demote each other", "remove each other"])
async def test_two_owners_at_once_never_leave_none(team: Team, how: str) -> None:
    for _ in range(ROUNDS):
        people = [await team.factory.person(Role.OWNER, team.organization) for _ in range(2)]
        first, second = [await team.browser(person) for person in people]
        # These two are the owners now: the race is about the last ones.
        await team.superuser.execute(
            "UPDATE memberships SET role = 'admin' WHERE organization_id = $1 AND user_id <> ALL($2)",
            team.organization,
            [person.id for person in people],
        )
        if how == "leave":
            acts = [team.act(client, "/organization/departure") for client in (first, second)]
        else:
            ids = [await team.membership(person) for person in people]
            verb, fields = ("role", {"role": "viewer"}) if how == "demote each other" else ("removal", {})
            acts = [
                team.act(first, f"/members/{ids[1]}/{verb}", **fields),
                team.act(second, f"/members/{ids[0]}/{verb}", **fields),
            ]
        answers = await asyncio.gather(*acts)
        assert all(answer.status_code in (303, 403, 409) for answer in answers), [a.status_code for a in answers]
        assert await team.owners() == 1, f"after both tried to {how}"


async def test_two_admins_who_demote_each_other_do_not_both_succeed(team: Team) -> None:
    """The second waits for the first, and is no admin any more when its turn comes."""
    for _ in range(ROUNDS):
        people = [await team.factory.person(Role.ADMIN, team.organization) for _ in range(2)]
        first, second = [await team.browser(person) for person in people]
        ids = [await team.membership(person) for person in people]
        await asyncio.gather(
            team.act(first, f"/members/{ids[1]}/role", role="viewer"),
            team.act(second, f"/members/{ids[0]}/role", role="viewer"),
        )
        assert sorted([str(await team.role(person)) for person in people]) == ["admin", "viewer"]


async def test_one_invitation_accepted_by_two_browsers_makes_one_member(team: Team) -> None:
    for _ in range(ROUNDS):
        person = await team.factory.person()
        await team.act(team.admin, "/members/invitations", email=person.email, role="member")
        row = await team.invitation(person.email)
        path = f"/invitations/{make_token(row['id'], row['sendings'])}/acceptance"
        browsers = [await team.browser(person) for _ in range(3)]
        answers = await asyncio.gather(*(client.post(path, csrf=client.csrf) for client in browsers))
        assert sorted(answer.status_code for answer in answers) == [303, 409, 409]
        places = await team.superuser.fetchval(
            "SELECT count(*) FROM memberships WHERE organization_id = $1 AND user_id = $2", team.organization, person.id
        )
        assert places == 1


async def test_two_admins_inviting_the_same_person_send_one_link(team: Team) -> None:
    other = await team.browser(await team.factory.person(Role.ADMIN, team.organization))
    for _ in range(ROUNDS):
        email = f"{new_token()[:12].lower()}@example.com"
        answers = await asyncio.gather(
            *(team.act(client, "/members/invitations", email=email, role="member") for client in (team.admin, other))
        )
        assert sorted(answer.status_code for answer in answers) == [303, 422]
        count = await team.superuser.fetchval(
            "SELECT count(*) FROM invitations WHERE organization_id = $1 AND email = $2", team.organization, email
        )
        assert count == 1


async def test_accepting_while_the_invitation_is_revoked_has_one_outcome(team: Team) -> None:
    for _ in range(ROUNDS):
        person = await team.factory.person()
        await team.act(team.admin, "/members/invitations", email=person.email, role="member")
        row = await team.invitation(person.email)
        client = await team.browser(person)
        path = f"/invitations/{make_token(row['id'], row['sendings'])}/acceptance"
        await asyncio.gather(
            client.post(path, csrf=client.csrf),
            team.act(team.admin, f"/members/invitations/{row['id']}/revocation"),
        )
        after = await team.invitation(person.email)
        assert (after["accepted_at"] is None) != (after["revoked_at"] is None)
        assert (await team.role(person) == "member") == (after["accepted_at"] is not None)


async def test_leaving_while_the_other_owners_account_is_deleted_leaves_an_owner(team: Team) -> None:
    for _ in range(ROUNDS):
        people = [await team.factory.person(Role.OWNER, team.organization) for _ in range(2)]
        leaver, deleter = [await team.browser(person) for person in people]
        await team.superuser.execute(
            "UPDATE memberships SET role = 'admin' WHERE organization_id = $1 AND user_id <> ALL($2)",
            team.organization,
            [person.id for person in people],
        )
        await asyncio.gather(
            team.act(leaver, "/organization/departure"),
            team.act(deleter, "/account/deletion", email=people[1].email),
        )
        assert await team.living_owners() == 1


async def test_nobody_becomes_the_owner_while_their_account_is_deleted(team: Team) -> None:
    """Neither saw what the other had not committed: the heir was gone, and the giver was no owner any more."""
    for _ in range(ROUNDS):
        giver, heir = [await team.factory.person(role, team.organization) for role in (Role.OWNER, Role.ADMIN)]
        giving, leaving = await team.browser(giver), await team.browser(heir)
        await team.superuser.execute(
            "UPDATE memberships SET role = 'admin' WHERE organization_id = $1 AND user_id <> $2",
            team.organization,
            giver.id,
        )
        await asyncio.gather(
            team.act(leaving, "/account/deletion", email=heir.email),
            team.act(giving, f"/members/{await team.membership(heir)}/ownership"),
        )
        assert await team.living_owners() == 1
