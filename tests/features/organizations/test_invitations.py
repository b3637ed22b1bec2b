"""An invitation works once, for seven days, for one verified address; everything else gets one clear sentence."""

from __future__ import annotations

import re
from datetime import timedelta

import httpx
import pytest

from infra.sandbox.mail import MailSink
from service.core import clock
from service.core.crypto import new_token
from service.features.organizations.models import make_token
from tests.features.accounts.conftest import Post
from tests.features.organizations.conftest import Team
from tests.support.client import Client
from tests.support.factories import Person
from tests.support.servers import RunningWorker

INVITATIONS = "/members/invitations"


async def invite(team: Team, email: str, role: str = "member") -> str:
    """Invite as the admin; the path of the link that the mail carries."""
    answer = await team.admin.submit(INVITATIONS, email=email, role=role)
    assert answer.status_code == 303, answer.text
    return await link_for(team, email)


async def link_for(team: Team, email: str) -> str:
    row = await team.invitation(email)
    return f"/invitations/{make_token(row['id'], row['sendings'])}"


async def accept(client: Client, link: str) -> httpx.Response:
    return await client.post(f"{link}/acceptance", csrf=client.csrf)


async def guest(team: Team, *, verified: bool = True) -> tuple[Person, Client]:
    person = await team.factory.person(verified=verified)
    return person, await team.browser(person)


async def test_the_mailed_link_makes_a_member(team: Team, worker: RunningWorker, mailbox: MailSink) -> None:
    person, client = await guest(team)
    await invite(team, person.email, "viewer")
    (mail,) = await Post(mailbox).to(person.email)
    found = re.search(r"http://\S+(/invitations/\S+)", mail.text)
    assert found is not None, mail.text

    async with Client(team.factory.url) as anonymous:
        shown = await anonymous.get(found[1])
        assert shown.status_code == 200
        assert shown.headers["referrer-policy"] == "no-referrer"
        assert "You are invited as viewer" in shown.text
        assert person.email not in shown.text, "a link that leaked must not tell whom it was meant for"
        for place in re.findall(r'<a href="(/[^"]*)"', shown.text):
            assert (await anonymous.get(place, follow_redirects=True)).status_code == 200, f"a dead link: {place}"
        detour = await anonymous.get(f"{found[1]}/acceptance")
        assert detour.headers["location"].startswith("/login?next=/invitations/")

    joined = await client.submit(f"{found[1]}/acceptance")
    assert (joined.status_code, joined.headers["location"]) == (303, "/dashboard")
    assert await team.role(person) == "viewer"
    assert person.email in await client.page("/members")


async def test_opening_the_link_accepts_nothing(team: Team) -> None:
    person, client = await guest(team)
    link = await invite(team, person.email)
    for path in (link, f"{link}/acceptance"):
        assert (await client.get(path)).status_code == 200
    assert await team.role(person) is None


async def test_whoever_is_invited_finds_the_invitation_among_their_organizations(team: Team) -> None:
    person, client = await guest(team)
    await invite(team, person.email)
    link = await link_for(team, person.email)
    for path in ("/organizations", "/organizations/new"):
        assert f"{link}/acceptance" in await client.page(path)
    assert link not in await team.stranger.page("/organizations")


async def test_an_unverified_address_sees_no_invitation_and_may_not_accept(team: Team) -> None:
    person, client = await guest(team, verified=False)
    link = await invite(team, person.email)
    assert link not in await client.page("/organizations")
    answer = await accept(client, link)
    assert answer.status_code == 403
    assert "not verified" in answer.text
    assert await team.role(person) is None


async def test_the_wrong_address_is_told_so_and_gets_nothing(team: Team) -> None:
    person, _ = await guest(team)
    thief, client = await guest(team)
    link = await invite(team, person.email)
    answer = await accept(client, link)
    assert answer.status_code == 403
    assert "sent to another e-mail address" in answer.text
    assert await team.role(thief) is None
    denied = await team.superuser.fetchval(
        "SELECT outcome FROM audit_log WHERE actor_id = $1 AND action = 'organizations.accept_invitation'", thief.id
    )
    assert denied == "denied"


async def test_a_link_works_once(team: Team) -> None:
    person, client = await guest(team)
    link = await invite(team, person.email)
    assert (await accept(client, link)).status_code == 303
    path = f"/members/{await team.membership(person)}/removal"
    assert (await team.act(team.owner, path)).status_code == 303
    again = await team.browser(person)
    answer = await accept(again, link)
    assert answer.status_code == 409
    assert "already been used" in answer.text
    assert await team.role(person) is None, "a removed member must not come back with the old link"


async def test_an_expired_link_says_so(team: Team) -> None:
    person, _ = await guest(team)
    link = await invite(team, person.email)
    clock.advance(timedelta(days=7, seconds=1))
    client = await team.browser(person)
    assert "has expired" in await client.page(link)
    answer = await accept(client, link)
    assert answer.status_code == 409
    assert "has expired" in answer.text
    assert await team.role(person) is None


async def test_a_revoked_link_says_so(team: Team) -> None:
    person, client = await guest(team)
    link = await invite(team, person.email)
    path = f"{INVITATIONS}/{(await team.invitation(person.email))['id']}/revocation"
    assert (await team.admin.submit(path, page=INVITATIONS)).status_code == 303
    assert person.email not in await team.admin.page(INVITATIONS)
    answer = await accept(client, link)
    assert answer.status_code == 409
    assert "was withdrawn" in answer.text


async def test_sending_again_replaces_the_link_and_the_days(team: Team) -> None:
    person, _ = await guest(team)
    old = await invite(team, person.email)
    clock.advance(timedelta(days=8))
    admin, client = await team.browser(team.people["admin"]), await team.browser(person)
    path = f"{INVITATIONS}/{(await team.invitation(person.email))['id']}/resend"
    assert (await admin.submit(path, page=INVITATIONS)).status_code == 303
    assert (await accept(client, old)).status_code == 404, "the old link stopped working"
    assert (await accept(client, await link_for(team, person.email))).status_code == 303
    assert await team.role(person) == "member"


async def test_a_member_is_not_invited_again(team: Team) -> None:
    answer = await team.admin.submit(INVITATIONS, email=team.people["viewer"].email.upper(), role="admin")
    assert answer.status_code == 422
    assert "already a member" in answer.text
    assert team.people["viewer"].email in answer.text.lower(), "what was typed stays"


async def test_somebody_who_has_become_a_member_otherwise_is_told_so(team: Team) -> None:
    person, client = await guest(team)
    link = await invite(team, person.email)
    await team.superuser.execute(
        "INSERT INTO memberships (id, organization_id, user_id, role, created_at)"
        " VALUES (gen_random_uuid(), $1, $2, 'viewer', now())",
        team.organization,
        person.id,
    )
    answer = await accept(client, link)
    assert answer.status_code == 409
    assert "already a member" in answer.text
    assert await team.role(person) == "viewer"


async def test_an_admin_cannot_invite_an_owner(team: Team) -> None:
    answer = await team.admin.submit(INVITATIONS, email="boss@example.com", role="owner")
    assert answer.status_code == 422
    assert "above your own" in answer.text
    count = await team.superuser.fetchval(
        "SELECT count(*) FROM invitations WHERE organization_id = $1", team.organization
    )
    assert count == 0


@pytest.mark.parametrize("email", ["", "nobody", "a@b@c", "a@example.com\nbcc: x@example.com", "ä\0@example.com"])
async def test_a_bad_address_is_refused_beside_the_field(team: Team, email: str) -> None:
    answer = await team.admin.submit(INVITATIONS, email=email, role="member")
    assert answer.status_code == 422
    assert 'aria-invalid="true"' in answer.text


async def test_nobody_is_flooded_with_invitations(team: Team) -> None:
    email = f"{new_token()[:10].lower()}@example.com"
    await invite(team, email)
    path = f"{INVITATIONS}/{(await team.invitation(email))['id']}/resend"
    for _ in range(2):
        await team.admin.submit(path, page=INVITATIONS)
    before = (await team.invitation(email))["sendings"]
    await team.admin.submit(path, page=INVITATIONS)
    assert before == 3
    assert (await team.invitation(email))["sendings"] == 3, "the fourth mail within an hour"


async def test_inviting_the_world_uses_up_nobodys_password_reset(team: Team) -> None:
    """All mails once shared one limit for everybody: five hundred invitations, and nobody could reset a password."""
    before = await buckets(team, "mail")
    await invite(team, f"{new_token()[:10].lower()}@example.com")
    # One of an earlier test may end meanwhile; none may be new, or fuller.
    assert (await buckets(team, "mail")).items() <= before.items()
    assert await buckets(team, "invitation")


async def buckets(team: Team, policy: str) -> dict[bytes, object]:
    redis, space = team.factory.resources.redis, team.factory.resources.settings.redis_namespace
    return {key: await redis.get(key) async for key in redis.scan_iter(f"{space}:l:{policy}:*", count=1000)}


async def test_neither_table_nor_queue_holds_a_working_link(team: Team) -> None:
    email = f"{new_token()[:10].lower()}@example.com"
    token = (await invite(team, email)).rpartition("/")[2]
    tables = [
        str([tuple(row) for row in await team.superuser.fetch(f"SELECT * FROM {table}")])
        for table in ("invitations", "pgqueuer", "audit_log")
    ]
    assert all(token not in text for text in tables)


@pytest.mark.parametrize("token", ["x", new_token(), "%00", "a" * 4000], ids=["short", "random", "NUL", "long"])
async def test_an_unknown_link_is_not_found(team: Team, token: str) -> None:
    async with Client(team.factory.url) as anonymous:
        assert (await anonymous.get(f"/invitations/{token}")).status_code in (400, 404)
    assert (await accept(team.stranger, f"/invitations/{token}")).status_code in (400, 404)


async def test_the_link_of_a_deleted_organization_leads_nowhere(team: Team) -> None:
    person, client = await guest(team)
    link = await invite(team, person.email)
    name = await team.superuser.fetchval("SELECT name FROM organizations WHERE id = $1", team.organization)
    await team.owner.submit("/organization/deletion", name=name)
    assert (await client.get(link)).status_code == 404
    assert (await accept(client, link)).status_code == 404
    assert name not in await client.page("/organizations")


async def test_a_name_in_a_mail_to_a_stranger_carries_no_address(
    team: Team, worker: RunningWorker, mailbox: MailSink
) -> None:
    await team.owner.submit("/organization", name="Win at https://evil.example/now now")
    email = f"{new_token()[:10].lower()}@example.com"
    await invite(team, email)
    (mail,) = await Post(mailbox).to(email)
    assert "evil.example" not in mail.subject + mail.text + mail.html
    assert "Win at https evil example now now" in mail.subject


@pytest.mark.parametrize("how", ["removed", "demoted", "deleted"])
async def test_an_invitation_needs_an_inviter_who_could_still_give_the_role(team: Team, how: str) -> None:
    """An admin on the way out invited friends, who came in after the admin was gone."""
    person, client = await guest(team)
    inviter = team.people["admin"]
    link = await invite(team, person.email)
    membership = await team.membership(inviter)
    if how == "removed":
        await team.act(team.owner, f"/members/{membership}/removal")
    elif how == "demoted":
        await team.act(team.owner, f"/members/{membership}/role", role="member")
    else:
        await team.act(team.admin, "/account/deletion", email=inviter.email)
    answer = await accept(client, link)
    assert answer.status_code == 409
    assert "was withdrawn" in answer.text
    assert await team.role(person) is None
    again = f"{INVITATIONS}/{(await team.invitation(person.email))['id']}/resend"
    assert (await team.owner.submit(again, page=INVITATIONS)).status_code == 303
    assert (await accept(client, await link_for(team, person.email))).status_code == 303
    assert (await team.invitation(person.email))["invited_by"] == team.people["owner"].id


async def test_an_admin_who_was_owner_backs_no_invitation_of_an_owner(team: Team) -> None:
    person, client = await guest(team)
    await team.act(team.owner, INVITATIONS, email=person.email, role="owner")
    await team.act(team.owner, f"/members/{await team.membership(team.people['member'])}/ownership")
    assert (await accept(client, await link_for(team, person.email))).status_code == 409
    assert await team.role(person) is None
