"""An organization that uses what its plan includes: adds, invites, accepts, counts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import UUID

import httpx

from service.core.context import Actor, ActorKind, Caller, Context, Resources
from service.core.ids import new_id
from service.features.organizations.models import make_token
from tests.architecture.planted import invite
from tests.support.client import Client
from tests.support.factories import Factory, Person


def home(person: Person) -> UUID:
    assert person.organization_id is not None
    return person.organization_id


async def create(client: Client) -> httpx.Response:
    return await client.api("POST", "/indicators", {"name": f"Made {new_id().hex[-12:]}"})


async def count(factory: Factory, table: str, organization: UUID, where: str = "true") -> int:
    found: int = await factory.superuser.fetchval(
        f"SELECT count(*) FROM {table} WHERE organization_id = $1 AND {where}", organization
    )
    return found


@asynccontextmanager
async def acting(resources: Resources, person: Person) -> AsyncIterator[Context]:
    """The person without a request: what holds for them is asked for when it is needed."""
    async with resources.database.unit_of_work(tenant=person.organization_id, user=person.id) as work:
        actor = Actor(ActorKind.USER, person.id)
        yield Context(work, resources, actor, Caller("test"), person.organization_id, person.role)


# What holds


async def ask(client: Client) -> httpx.Response:
    """Invite somebody; 303 when that worked, and a refusal as a problem in JSON."""
    given = {"email": f"i{new_id().hex[-12:]}@example.com", "role": "member", "csrf": client.csrf}
    headers = {"origin": client.origin, "accept": "application/json"}
    return await client.http.post("/members/invitations", data=given, headers=headers)


async def accept(factory: Factory, stack: AsyncExitStack, organization: UUID, inviter: Person) -> httpx.Response:
    guest, identifier = await factory.person(), new_id()
    await invite(factory, organization, identifier, guest.email)
    await factory.superuser.execute("UPDATE invitations SET invited_by = $1 WHERE id = $2", inviter.id, identifier)
    client = await stack.enter_async_context(await factory.client(guest))
    return await client.submit(f"/invitations/{make_token(identifier, 1)}/acceptance")
