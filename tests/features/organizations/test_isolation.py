"""Another organization's people and invitations do not exist: not on a page, not in the API, not for PostgreSQL."""

from __future__ import annotations

from typing import Any

import asyncpg
import httpx
import pytest

from service.core.context import Resources
from service.core.ids import new_id
from service.features.organizations.models import make_token
from tests.features.organizations.conftest import Team
from tests.support.client import Client

ROUTES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("POST", "/members/{membership}/role", {"role": "viewer"}),
    ("POST", "/members/{membership}/removal", {}),
    ("POST", "/members/{membership}/ownership", {}),
    ("POST", "/members/invitations/{invitation}/resend", {}),
    ("POST", "/members/invitations/{invitation}/revocation", {}),
    ("POST", "/organizations/{organization}/switch", {}),
    ("POST", "/organizations/{organization}/restoration", {}),
)


def comparable(answer: httpx.Response) -> tuple[int, dict[str, str], str]:
    """What an attacker can compare: all but the request's own id, date and remaining limit."""
    own = answer.headers["x-request-id"]
    varying = ("x-request-id", "date", "x-ratelimit-remaining", "x-ratelimit-reset")
    headers = {name: value for name, value in answer.headers.items() if name not in varying}
    return answer.status_code, headers, answer.text.replace(own, "")


@pytest.mark.parametrize(("method", "path", "fields"), ROUTES)
async def test_a_foreign_id_answers_exactly_like_a_random_one(
    team: Team, method: str, path: str, fields: dict[str, str]
) -> None:
    email = (await team.factory.person()).email
    await team.act(team.admin, "/members/invitations", email=email, role="member")
    foreign = {
        "membership": await team.membership(team.people["member"]),
        "invitation": str((await team.invitation(email))["id"]),
        "organization": str(team.organization),
    }
    random = {name: str(new_id()) for name in foreign}
    theirs = await team.act(team.stranger, path.format(**foreign), **fields)
    nobodys = await team.act(team.stranger, path.format(**random), **fields)
    assert theirs.status_code == 404
    assert comparable(theirs) == comparable(nobodys)
    assert await team.role(team.people["member"]) == "member"
    untouched = await team.invitation(email)
    assert (untouched["revoked_at"], untouched["sendings"]) == (None, 1)


async def test_a_deleted_organization_of_others_answers_like_a_random_id(team: Team) -> None:
    await team.superuser.execute(
        "UPDATE organizations SET deleted_at = now(), deletion_id = gen_random_uuid() WHERE id = $1", team.organization
    )
    theirs = await team.act(team.stranger, f"/organizations/{team.organization}/restoration")
    nobodys = await team.act(team.stranger, f"/organizations/{new_id()}/restoration")
    assert theirs.status_code == 404
    assert comparable(theirs) == comparable(nobodys)


async def test_unknown_links_have_one_answer(team: Team) -> None:
    async with Client(team.factory.url) as anonymous:
        await anonymous.get("/login")  # the browser has its form token by now, or the first answer would bring it
        first, second = [await anonymous.get(f"/invitations/{make_token(new_id(), 1)}") for _ in range(2)]
    assert first.status_code == 404
    assert comparable(first) == comparable(second)


class AsApp:
    """The application's role on a connection of its own: what PostgreSQL shows when every filter of ours is gone."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self.connection = connection

    async def rows(self, table: str, **settings: object) -> set[str]:
        async with self.connection.transaction():
            for name, value in settings.items():
                await self.connection.execute("SELECT set_config($1, $2, true)", f"app.{name}", str(value))
            return {str(row["id"]) for row in await self.connection.fetch(f"SELECT id FROM {table}")}


@pytest.fixture
async def as_app(resources: Resources) -> Any:
    connection = await asyncpg.connect(resources.settings.database_url.get_secret_value())
    yield AsApp(connection)
    await connection.close()


async def test_row_level_security_shows_people_their_own_places_only(team: Team, as_app: AsApp) -> None:
    member = team.people["member"]
    assert await as_app.rows("memberships") == set()
    assert await as_app.rows("memberships", user=member.id) == {await team.membership(member)}
    assert len(await as_app.rows("memberships", tenant=team.organization)) == 4
    assert await as_app.rows("organizations") == set()
    assert await as_app.rows("organizations", user=member.id) == {str(team.organization)}


async def test_row_level_security_shows_an_invitation_to_whoever_holds_it(team: Team, as_app: AsApp) -> None:
    invited = await team.factory.person()
    unverified = await team.factory.person(verified=False)
    for person in (invited, unverified):
        await team.act(team.admin, "/members/invitations", email=person.email, role="member")
    row, other = await team.invitation(invited.email), await team.invitation(unverified.email)
    mine, home = {str(row["id"])}, {str(team.organization)}
    assert await as_app.rows("invitations") == set()
    assert await as_app.rows("invitations", invitation=row["token_hash"].hex()) == mine
    assert await as_app.rows("organizations", invitation=row["token_hash"].hex()) == home
    assert await as_app.rows("invitations", user=invited.id) == mine
    assert await as_app.rows("invitations", user=unverified.id) == set()
    assert await as_app.rows("invitations", user=team.people["stranger"].id) == set()
    assert await as_app.rows("invitations", invitation="00") == set()
    assert str(other["id"]) in await as_app.rows("invitations", tenant=team.organization)


async def test_seeing_an_invitation_is_no_right_to_change_it(team: Team, as_app: AsApp) -> None:
    person = await team.factory.person()
    await team.act(team.admin, "/members/invitations", email=person.email, role="member")
    async with as_app.connection.transaction():
        await as_app.connection.execute("SELECT set_config('app.user', $1, true)", str(person.id))
        changed = await as_app.connection.execute(
            "UPDATE invitations SET role = 'owner' WHERE email = $1", person.email
        )
        renamed = await as_app.connection.execute("UPDATE organizations SET name = 'mine'")
    assert (changed, renamed) == ("UPDATE 0", "UPDATE 0")
