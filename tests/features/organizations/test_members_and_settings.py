"""What each role sees and may do on the pages of an organization."""

from __future__ import annotations

from datetime import timedelta

import pytest

from service.core import clock
from tests.features.organizations.conftest import Team

ABOVE = "neither give nor change a role above your own"
INVITATIONS = "/members/invitations"
LAST = "An organization needs an owner."


async def test_every_page_is_there_for_the_owner(team: Team) -> None:
    for path in ("/organizations", "/organizations/new", "/organization", "/members", "/members/invitations"):
        assert "<h1>" in await team.owner.page(path), path
    assert "Type the name" in await team.owner.page("/organization/deletion")


async def test_a_viewer_sees_who_belongs_but_no_control_that_would_refuse_them(team: Team) -> None:
    members = await team.viewer.page("/members")
    assert all(person.email in members for name, person in team.people.items() if name != "stranger")
    assert team.people["stranger"].email not in members
    assert "/removal" not in members
    assert "/role" not in members
    assert "Invite people" not in members
    settings = await team.viewer.page("/organization")
    assert 'name="name"' not in settings
    assert "/organization/deletion" not in settings
    assert "/organization/departure" in settings


async def test_rename_shows_everywhere(team: Team) -> None:
    answer = await team.admin.submit("/organization", name="  Müller & Söhne  ")
    assert answer.status_code == 303
    assert "Müller &amp; Söhne" in await team.viewer.page("/organization")


@pytest.mark.parametrize("name", ["", " ", "x" * 121, "two\nlines", "nul\0"])
async def test_a_bad_name_is_refused_beside_the_field(team: Team, name: str) -> None:
    answer = await team.admin.submit("/organization", name=name)
    assert answer.status_code == 422
    assert 'aria-invalid="true"' in answer.text


@pytest.mark.parametrize("path", ["/organization", "/members/invitations", "/organization/deletion"])
async def test_a_member_may_not_manage(team: Team, path: str) -> None:
    answer = await team.act(team.member, path, name="Mine now", email="a@example.com", role="member")
    assert answer.status_code == 403


async def test_an_admin_changes_roles_up_to_their_own(team: Team) -> None:
    target = team.people["viewer"]
    path = f"/members/{await team.membership(target)}/role"
    assert (await team.admin.submit(path, page="/members", role="admin")).status_code == 303
    assert await team.role(target) == "admin"


@pytest.mark.parametrize(
    ("who", "target", "role"),
    [
        ("admin", "viewer", "owner"),  # raise somebody above oneself
        ("admin", "admin", "owner"),  # raise oneself
        ("admin", "owner", "viewer"),  # pull an owner down
    ],
)
async def test_nobody_acts_above_their_own_role(team: Team, who: str, target: str, role: str) -> None:
    person = team.people[target]
    answer = await team.act(getattr(team, who), f"/members/{await team.membership(person)}/role", role=role)
    assert answer.status_code == 303
    assert ABOVE in await getattr(team, who).page("/members")
    assert await team.role(person) == target


async def test_a_role_that_is_none_is_refused_beside_its_field(team: Team) -> None:
    membership = await team.membership(team.people["viewer"])
    answer = await team.admin.submit(f"/members/{membership}/role", page="/members", role="emperor")
    assert answer.status_code == 422
    assert f'id="{membership}-role-error"' in answer.text
    assert answer.text.count('aria-invalid="true"') == 1, "the other members have nothing wrong"
    assert await team.role(team.people["viewer"]) == "viewer"
    refused = await team.act(team.member, f"/members/{membership}/role", role="emperor")
    assert refused.status_code == 403


@pytest.mark.parametrize("who", ["member", "viewer"])
async def test_members_cannot_raise_themselves(team: Team, who: str) -> None:
    path = f"/members/{await team.membership(team.people[who])}/role"
    assert (await team.act(getattr(team, who), path, role="owner")).status_code == 403
    assert await team.role(team.people[who]) == who


async def test_an_admin_cannot_remove_an_owner(team: Team) -> None:
    path = f"/members/{await team.membership(team.people['owner'])}/removal"
    await team.act(team.admin, path)
    assert ABOVE in await team.admin.page("/members")
    assert await team.role(team.people["owner"]) == "owner"


async def test_the_last_owner_can_neither_step_down_nor_leave_nor_be_removed(team: Team) -> None:
    membership = await team.membership(team.people["owner"])
    for path, fields in (
        (f"/members/{membership}/role", {"role": "admin"}),
        (f"/members/{membership}/removal", {}),
        ("/organization/departure", {}),
    ):
        assert (await team.act(team.owner, path, **fields)).status_code == 303
        assert LAST in await team.owner.page("/members"), path
    assert await team.role(team.people["owner"]) == "owner"


async def test_an_owner_whose_account_is_deleted_does_not_count(team: Team) -> None:
    second = await team.factory.person(team.people["owner"].role, team.organization)
    await team.superuser.execute("UPDATE users SET deleted_at = now() WHERE id = $1", second.id)
    await team.act(team.owner, "/organization/departure")
    assert LAST in await team.owner.page("/organization")
    assert await team.role(team.people["owner"]) == "owner"


async def test_a_removed_member_loses_everything_at_the_next_request(team: Team) -> None:
    assert (await team.member.get("/members")).status_code == 200
    path = f"/members/{await team.membership(team.people['member'])}/removal"
    assert (await team.admin.submit(path, page="/members")).status_code == 303
    answer = await team.member.get("/members")
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/organizations/new")
    assert (await team.member.get("/members", headers={"accept": "application/json"})).status_code == 409
    assert str(team.organization) not in await team.member.page("/organizations")


async def test_transfer_makes_a_new_owner_and_an_admin(team: Team) -> None:
    heir = team.people["member"]
    path = f"/members/{await team.membership(heir)}/ownership"
    assert (await team.owner.submit(path, page="/members")).status_code == 303
    assert (await team.role(heir), await team.role(team.people["owner"])) == ("owner", "admin")
    assert (await team.act(team.owner, "/organization/deletion", name="x")).status_code == 403


async def test_dangerous_acts_ask_for_the_password_again(team: Team) -> None:
    heir = await team.membership(team.people["member"])
    clock.advance(timedelta(minutes=11))
    for path in (f"/members/{heir}/ownership", "/organization/deletion"):
        answer = await team.act(team.owner, path, name="whatever")
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/confirm"), path
    assert await team.role(team.people["member"]) == "member"


async def test_a_stale_session_makes_no_owner_and_no_admin_and_unmakes_no_owner(team: Team) -> None:
    """Transfer asked for a fresh proof and the ways around it did not: a thief invited themselves as owner."""
    second = await team.factory.person(team.people["owner"].role, team.organization)
    waiting = "waiting@example.com"
    await team.act(team.owner, INVITATIONS, email=waiting, role="owner")
    invitation = await team.invitation(waiting)
    member, owner = await team.membership(team.people["member"]), await team.membership(second)
    clock.advance(timedelta(minutes=11))
    for path, fields in (
        (INVITATIONS, {"email": "thief@example.com", "role": "owner"}),
        (INVITATIONS, {"email": "thief@example.com", "role": "admin"}),
        (f"{INVITATIONS}/{invitation['id']}/resend", {}),
        (f"/members/{member}/role", {"role": "owner"}),
        (f"/members/{member}/role", {"role": "admin"}),
        (f"/members/{owner}/role", {"role": "viewer"}),
        (f"/members/{owner}/removal", {}),
    ):
        page = "/members/invitations" if path.startswith(INVITATIONS) else "/members"
        answer = await team.owner.http.post(
            path,
            data={"csrf": team.owner.csrf, **fields},
            headers={"origin": team.owner.origin, "referer": team.owner.origin + page},
        )
        assert (answer.status_code, answer.headers.get("location")) == (303, f"/confirm?next={page}"), (path, fields)
    assert (await team.role(team.people["member"]), await team.role(second)) == ("member", "owner")
    assert (await team.invitation(waiting))["sendings"] == 1
    everyday = await team.act(team.owner, INVITATIONS, email="colleague@example.com", role="member")
    assert everyday.headers["location"] == INVITATIONS, "who gives little is not asked"


async def test_a_member_leaves_and_lands_among_their_organizations(team: Team) -> None:
    answer = await team.member.submit("/organization/departure", page="/organization")
    assert (answer.status_code, answer.headers["location"]) == (303, "/organizations")
    assert await team.role(team.people["member"]) is None
    assert "You have left the organization." in await team.member.page("/organizations")
