"""What a restored database may hold beside the erased: open requests, second erasures, and what no entry fits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest

from service.core import clock
from service.core.context import SYSTEM, Caller, Context
from service.core.errors import Unavailable
from service.core.ids import new_id
from service.features.erasure import jobs
from service.features.erasure.flows import arrivals, ledger
from service.features.erasure.flows.machine import replay_all
from service.features.erasure.flows.steps import STEPS
from service.guardrails.mailing import hash_of
from service.guardrails.residency import at_home
from service.integrations.storage import Storage
from tests.features.erasure.world import World
from tests.support.factories import Person

pytest_plugins = ("tests.guardrails.durability", "tests.features.erasure.planet")


async def erased_once(world: World, identifier: UUID, email: str) -> UUID:
    """The ledger says so, and this database knows nothing of it: it is from before."""
    request = new_id()
    await ledger.write(world.resources, ledger.Entry(request, identifier, hash_of(email).hex(), clock.now()))
    return request


async def invite(world: World, email: str) -> None:
    await world.superuser.execute(
        "INSERT INTO invitations (id, organization_id, email, role, sendings, token_hash, created_at, expires_at)"
        " VALUES (gen_random_uuid(), $1, $2, 'member', 1, '', now(), now() + interval '7 days')",
        (await world.factory.organization()), email,
    )  # fmt: skip


async def lay(world: World, name: str, content: bytes) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield content

    await world.resources.get(Storage).put(at_home(world.resources, f"erasures/{name}"), parts())


async def test_one_that_cannot_begin_keeps_nobody_else_here(world: World, person: Person) -> None:
    open_again, other = person, await world.factory.person()
    await world.ask(open_again)  # withdrawn later, and erased by another request: the backup is from between
    await erased_once(world, open_again.id, open_again.email)
    await erased_once(world, other.id, other.email)
    long = f"{new_id().hex}@{'x' * 60}.{'y' * 60}.example"
    await invite(world, long)
    await invite(world, long.upper())
    await erased_once(world, new_id(), long)
    await lay(world, "README", b"{}")
    await lay(world, str(new_id()), b"not an entry")
    assert await replay_all(world.resources) == (2, 1)
    assert not await world.exists(open_again)
    assert not await world.exists(other)
    states = await world.superuser.fetch(
        "SELECT source || ' ' || state AS is FROM erasure_requests WHERE user_id = $1", open_again.id
    )
    assert {row["is"] for row in states} == {"person withdrawn", "restore done"}
    await world.superuser.execute("DELETE FROM invitations WHERE email = $1", long.upper())
    assert await replay_all(world.resources) == (1, 0)
    assert not await world.superuser.fetchval("SELECT count(*) FROM invitations WHERE email = $1", long)


async def test_who_was_erased_twice_goes_twice(world: World, person: Person) -> None:
    requests = [await erased_once(world, person.id, email) for email in ("former@example.com", person.email)]
    assert await replay_all(world.resources) == (2, 0)
    assert not await world.exists(person)
    done = await world.superuser.fetchval(
        "SELECT count(*) FROM erasure_requests WHERE id = ANY($1) AND state = 'done'", requests
    )
    assert done == 2


async def test_what_is_held_up_after_its_entry_is_no_restore(
    world: World, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = STEPS["tables"]

    async def away(*arguments: Any) -> dict[str, Any]:
        raise Unavailable("The database is away.")

    monkeypatch.setitem(STEPS, "tables", away)
    await world.ask(person)
    await world.after_a_day()
    before = await world.steps(person)
    assert "ledger" in before
    clock.advance(timedelta(hours=2))
    assert await arrivals.replay(world.resources) == (0, 0)
    assert (await world.steps(person), (await world.request(person))["source"]) == (before, "person")
    monkeypatch.setitem(STEPS, "tables", real)
    await world.work_off()
    assert ((await world.request(person))["state"], await world.exists(person)) == ("done", False)


WAITING = "SELECT convert_from(payload, 'UTF8') FROM pgqueuer WHERE entrypoint = 'erasure.begin_again'"


async def test_the_ledger_is_followed_in_steps(world: World, person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """What looks by the clock reads names alone; each job reads a few entries, so that no transaction stays open."""
    monkeypatch.setattr(jobs, "AT_ONCE", 1)
    other = await world.factory.person()
    missing = [await erased_once(world, one.id, one.email) for one in (person, other)]
    maintenance = world.resources.maintenance
    assert maintenance is not None
    async with maintenance.unit_of_work() as work:
        await jobs.follow_the_ledger(Context(work, world.resources, SYSTEM, Caller("test")))
    begun = "SELECT count(*) FROM erasure_requests WHERE id = ANY($1)"
    assert await world.superuser.fetchval(begun, missing) == 0, "nothing is begun in the same transaction"
    enqueued = [orjson.loads(row[0])["requests"] for row in await world.superuser.fetch(WAITING)]
    assert {str(request) for request in missing} <= {request for [request] in enqueued}, "a job for each part"
    for request in missing:
        async with maintenance.unit_of_work() as work:
            await jobs.begin_again(Context(work, world.resources, SYSTEM, Caller("test")), [request])
    await world.work_off()
    assert not await world.exists(person)
    assert not await world.exists(other)
    async with maintenance.unit_of_work() as work:
        await jobs.forget_entries(Context(work, world.resources, SYSTEM, Caller("test")), missing[:1])
    assert missing[0] not in (known := await ledger.known(world.resources))
    assert missing[1] in known
