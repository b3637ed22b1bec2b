"""What comes while a person is being erased: a legal hold, a second worker, an archive that is just being made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeAlias

import asyncpg
import pytest

from service.core import clock
from service.core.context import Actor, ActorKind, Caller, Context, Login, Resources
from service.core.database import Base
from service.core.errors import Conflict
from service.core.ids import new_id
from service.features.erasure import actions
from service.features.erasure.flows import metrics
from service.features.erasure.flows.steps import STEPS, Case
from service.features.privacy.actions import finish_export
from service.features.privacy.flows import metrics as copies
from service.guardrails.erasure import erase_rows, forget_mentions
from service.guardrails.purge import refuse_while_held
from service.guardrails.subjects import Person as Sought
from tests.features.erasure.world import World
from tests.support.factories import Person

pytest_plugins = ("tests.guardrails.durability", "tests.features.erasure.planet")
Before: TypeAlias = Callable[[str, Callable[[], Awaitable[None]]], None]
HOLD = (
    "INSERT INTO legal_holds (id, subject_id, reason, placed_at) VALUES (gen_random_uuid(), $1, 'Smith v. us', now())"
)
FINISHED = "SELECT count(*) FROM audit_log WHERE action = 'erasure.finish' AND object_id = $1"


async def test_a_hold_counts_until_the_last_row_goes(world: World, person: Person) -> None:
    maintenance, sought = world.resources.maintenance, Sought(person.id, (person.email,))
    assert maintenance is not None
    staff = await world.factory.person(staff=True)
    page = f"/staff/people/{person.id}/hold"
    async with await world.factory.client(staff, "password", "totp") as office:
        async with maintenance.unit_of_work() as destroying:
            await refuse_while_held(destroying, person.id)
            busy = await office.submit(page, page=page, reason="Smith v. us, ticket 4711")
            assert busy.status_code == 503, "nobody is told that it is held while it is being destroyed"
        assert (await office.submit(page, page=page, reason="Smith v. us, ticket 4711")).status_code == 303
    async with maintenance.unit_of_work() as work:
        with pytest.raises(Conflict, match="legal hold"):
            await erase_rows(work, sought, Base.metadata)
    with pytest.raises(Conflict, match="legal hold"):
        await forget_mentions(maintenance, sought, Base.metadata)


async def test_what_is_held_is_not_late(world: World) -> None:
    people = [await world.factory.person() for _ in range(2)]
    await world.superuser.execute(HOLD, people[0].id)

    async def measured() -> tuple[float, float]:
        await metrics.measure(world.resources)
        return metrics.late._value.get(), metrics.held._value.get()

    late, held = await measured()
    for person in people:
        await world.ask(person)
    assert await measured() == (late, held + 1)
    old = "UPDATE erasure_requests SET requested_at = now() - interval '21 days' WHERE user_id = ANY($1)"
    await world.superuser.execute(old, [person.id for person in people])
    assert await measured() == (late + 1, held + 1)


@pytest.fixture
def before(person: Person, monkeypatch: pytest.MonkeyPatch) -> Before:
    """Let something happen just before a step of this person's erasure, once; others' go on as they are."""

    def happen(name: str, what: Callable[[], Awaitable[None]]) -> None:
        real = STEPS[name]

        async def step(resources: Resources, case: Case) -> dict[str, Any]:
            if case.user_id == person.id:
                monkeypatch.setitem(STEPS, name, real)
                await what()
            return await real(resources, case)

        monkeypatch.setitem(STEPS, name, step)

    return happen


async def test_a_worker_that_wakes_up_too_late_changes_nothing(world: World, person: Person, before: Before) -> None:
    await world.ask(person)
    ended = list[asyncpg.Record]()

    async def another_worker() -> None:
        clock.advance(timedelta(minutes=4))  # longer than the lease
        await world.work_off()
        ended.append(await world.request(person))

    before("mail", another_worker)
    await world.after_a_day()
    [done] = ended
    assert done["state"] == "done"
    assert await world.request(person) == done
    assert await world.superuser.fetchval(FINISHED, done["id"]) == 1


async def test_it_cannot_be_taken_back_once_it_has_begun(world: World, person: Person, before: Before) -> None:
    told = list[str]()

    async def think_better() -> None:
        async with world.resources.database.unit_of_work(tenant=None, user=person.id) as work:
            now = clock.now()
            fresh = Login("key", person.id, None, now, now, ("password",), 0, "csrf")
            ctx = Context(work, world.resources, Actor(ActorKind.USER, person.id), Caller("test"), login=fresh)
            with pytest.raises(Conflict) as refused:
                await actions.withdraw(ctx)
            told.append(refused.value.detail)

    before("files", think_better)
    await world.ask(person)
    await world.after_a_day()
    assert told == ["Your data are being erased already; it cannot be taken back any more."]
    assert (await world.request(person))["state"] == "done"


async def test_an_archive_that_is_just_being_made_is_not_handed_out(
    world: World, person: Person, before: Before
) -> None:
    export, claim = new_id(), new_id()
    await world.superuser.execute(
        "INSERT INTO data_exports (id, user_id, scope, state, asked_at, done, parts, rows, size, key, missing, remark,"
        " claim, leased_until, attempts)"
        " VALUES ($1, $2, 'person', 'building', now() - interval '3 hours', 0, 1, 0, 0, '', '{}',"
        " '', $3,"
        " now() + interval '1 hour', 1)",
        export, person.id, claim,
    )  # fmt: skip
    await copies.measure(world.resources)
    assert copies.oldest._value.get() >= 3 * 3600, "somebody waits for it"
    came = list[bool]()

    async def its_worker_ends() -> None:
        async with world.acting() as ctx:
            came.append(await finish_export(ctx, export, claim, "exports/x", 1, []) is not None)

    before("stripe", its_worker_ends)  # after the files went, and before the tables do
    await world.ask(person)
    await world.after_a_day()
    assert (await world.request(person))["state"] == "done"
    assert came == [False], "told that it is not its any more, the worker throws the archive away"
    await copies.measure(world.resources)
    assert copies.oldest._value.get() == 0
