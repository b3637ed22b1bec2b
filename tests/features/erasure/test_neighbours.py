"""An erasure is one person's: what others' messages say, and what they object to, is not touched by it."""

from __future__ import annotations

import orjson

from service.core import clock
from service.core.ids import new_id
from service.features.notifications.flows import events
from service.features.notifications.schemas import SOURCE
from service.guardrails import mailing
from service.guardrails.erasure import AT_ONCE
from service.guardrails.inbox import Inbox, InboxMessage, Message, State
from tests.features.erasure import canary
from tests.features.erasure.world import World
from tests.support.factories import Person

pytest_plugins = ("tests.guardrails.durability", "tests.features.erasure.planet")
WAITING = "SELECT external_id, state FROM inbox WHERE external_id = ANY($1)"


async def bounced(world: World, *addresses: str, reference: str | None = None) -> list[str]:
    """A bounce of each that waits for the worker; their ids."""
    now = int(clock.now().timestamp())
    bodies = [orjson.dumps({"email": one, "event": "bounce", "timestamp": now, "sg": "x"}) for one in addresses]
    sent = [Message("test", new_id().hex, "bounce", reference, body, State.PENDING) for body in bodies]
    await Inbox(SOURCE, "SELECT NULL AS gen WHERE false").receive_all(world.superuser, sent)
    return [one.external_id for one in sent]


async def test_messages_about_others_stay_as_they_came(world: World, person: Person) -> None:
    """More of them than are opened in one go, and theirs in the second."""
    longer = [f"jo{person.email}", f"{person.email}.au", f"jo&{person.email}"]
    others = [*longer, *(f"{new_id().hex}@example.com" for _ in range(AT_ONCE))]
    ids = await bounced(world, *others[:-1], person.email.upper(), others[-1])
    await world.ask(person)
    await world.after_a_day()
    assert (await world.request(person))["state"] == "done"
    left = await world.superuser.fetch(
        "SELECT external_id FROM inbox WHERE external_id = ANY($1) AND body IS NOT NULL ORDER BY id", ids
    )
    assert [row["external_id"] for row in left] == [*ids[:-2], ids[-1]]
    while await events.work_off(world.resources):
        pass
    states = {row["external_id"]: row["state"] for row in await world.superuser.fetch(WAITING, ids)}
    assert states == dict.fromkeys(ids, State.PROCESSED), "also the one whose body is gone"
    assert [await mailing.causes(world.superuser, one) for one in others] == [{mailing.Cause.BOUNCE}] * len(others)
    assert InboxMessage.__tablename__ in (await world.steps(person))["tables"]


async def test_the_farewell_that_bounces_later_does_not_bring_the_address_back(world: World, person: Person) -> None:
    await world.ask(person)
    await world.after_a_day()
    request = await world.request(person)
    assert request["state"] == "done"
    await bounced(world, person.email, reference=f"erasure.{request['id']}")
    while await events.work_off(world.resources):
        pass
    assert not await canary.in_tables(world.superuser, person.email)
    causes = await mailing.causes(world.superuser, person.email)
    assert causes == {mailing.Cause.BOUNCE}, "whoever has the mailbox is not written to all the same"
