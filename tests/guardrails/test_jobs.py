"""Jobs: committed or gone with the change, once, in order, retried, held, handed back, and found again after a kill."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest
from structlog.testing import capture_logs

from service.core import telemetry
from service.core.context import SYSTEM, Actor, ActorKind, Caller, Context, Resources
from service.core.database import Database, UnitOfWork
from service.core.ids import new_id
from service.core.settings import Settings
from service.guardrails import audit, jobs
from service.guardrails.jobs import Event, Retry
from service.guardrails.jobs.consumer import consume
from service.guardrails.jobs.picking import PICK
from service.guardrails.jobs.queue import forget_old_entries
from service.guardrails.jobs.registry import JOBS, SUBSCRIBERS, job_of

if TYPE_CHECKING:
    from tests.guardrails.durability import Acting

pytest_plugins = "tests.guardrails.durability"

ADA = Actor(ActorKind.USER, new_id())
SOON = Retry(attempts=3, first=timedelta(milliseconds=20))
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    """Jobs of one test are no jobs of the next, and none of the product's."""
    known, subscribed = dict(JOBS), dict(SUBSCRIBERS)
    JOBS.clear()
    yield
    for registry, before in ((JOBS, known), (SUBSCRIBERS, subscribed)):
        registry.clear()
        registry.update(before)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
async def _queue(own_superuser: asyncpg.Connection[Any]) -> None:
    await own_superuser.execute(
        "TRUNCATE pgqueuer, pgqueuer_log, pgqueuer_schedules;"
        "CREATE TABLE IF NOT EXISTS effects (id bigserial, what text);"
        "TRUNCATE effects; GRANT ALL ON effects, effects_id_seq TO ballast_app, ballast_maintenance"
    )


async def effect(ctx: Context, what: object) -> None:
    await ctx.work.raw.execute("INSERT INTO effects (what) VALUES ($1)", str(what))


async def effects(superuser: asyncpg.Connection[Any]) -> list[str]:
    return [row["what"] for row in await superuser.fetch("SELECT what FROM effects ORDER BY id")]


async def states(superuser: asyncpg.Connection[Any]) -> dict[str, int]:
    rows = await superuser.fetch("SELECT status::text, count(*) AS jobs FROM pgqueuer GROUP BY status")
    return {row["status"]: row["jobs"] for row in rows}


@asynccontextmanager
async def working(resources: Resources, workers: int = 1, **options: Any) -> AsyncIterator[asyncio.Event]:
    """Workers in this process, until the block ends."""
    stop = asyncio.Event()
    assert resources.maintenance is not None
    tasks = [asyncio.create_task(consume(resources, resources.maintenance, stop, **options)) for _ in range(workers)]
    try:
        yield stop
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def drain(resources: Resources, **options: Any) -> None:
    assert resources.maintenance is not None
    await asyncio.wait_for(consume(resources, resources.maintenance, asyncio.Event(), until_empty=True, **options), 20)


async def until(condition: Callable[[], Any], seconds: float = 15) -> None:
    """Wait for a condition that is looked up in the database."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not await condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not come true; the log above says what happened"
        await asyncio.sleep(0.02)


# In the caller's transaction


async def test_a_job_runs_after_the_commit_as_the_system_on_behalf_of_who_enqueued_it(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    seen: list[Any] = []

    @jobs.job()
    async def look(ctx: Context, thing: UUID, when: timedelta, names: list[str]) -> None:
        user = await ctx.work.raw.fetchval("SELECT current_setting('app.user')")
        role = await ctx.work.raw.fetchval("SELECT current_user")
        seen.append((ctx.actor, ctx.on_behalf_of, ctx.organization_id, ctx.caller.request_id, user, role))
        seen.append((thing, when, names))

    tenant, thing = new_id(), new_id()
    async with acting(tenant=tenant, actor=ADA, request_id="req-9") as ctx:
        await jobs.enqueue(ctx, look, thing=thing, when=timedelta(hours=1), names=["a"])
    await drain(own_resources)
    assert str(seen[0][0]) == "system"
    assert seen[0][1:] == (ADA, tenant, "req-9", str(ADA.id), "ballast_app")
    assert seen[1] == (thing, timedelta(hours=1), ["a"])
    assert await states(own_superuser) == {}


async def test_a_rollback_leaves_no_job(acting: Acting, own_superuser: asyncpg.Connection[Any]) -> None:
    @jobs.job()
    async def never(ctx: Context) -> None: ...

    async def fail_halfway() -> None:
        async with acting() as ctx:
            await jobs.enqueue(ctx, never)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_halfway()
    assert await states(own_superuser) == {}


async def test_a_connection_outside_a_transaction_is_refused_because_its_job_would_survive(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It bites: without the check, the job of a change that never was is in the queue."""

    @jobs.job()
    async def never(ctx: Context) -> None: ...

    async def fail_outside_a_transaction() -> None:
        async with own_resources.database.connection() as connection:
            ctx = Context(UnitOfWork(connection), own_resources, SYSTEM, Caller("r"))  # nobody called begin()
            await jobs.enqueue(ctx, never)
            raise ZeroDivisionError

    with pytest.raises(RuntimeError, match="inside a unit of work"):
        await fail_outside_a_transaction()
    monkeypatch.setattr(asyncpg.Connection, "is_in_transaction", lambda _: True)
    with pytest.raises(ZeroDivisionError):
        await fail_outside_a_transaction()
    assert await states(own_superuser) == {"queued": 1}


async def test_a_wrong_argument_is_refused_where_the_job_is_enqueued(acting: Acting) -> None:
    @jobs.job()
    async def greet(ctx: Context, name: str) -> None: ...

    async def no_job(ctx: Context) -> None: ...

    async with acting() as ctx:
        with pytest.raises(TypeError, match="nmae"):
            await jobs.enqueue(ctx, greet, name="x", nmae="y")
        with pytest.raises(TypeError, match="name"):
            await jobs.enqueue(ctx, greet)
        with pytest.raises(LookupError, match="@job"):
            await jobs.enqueue(ctx, no_job)


async def test_an_action_starts_the_jobs_that_subscribed_to_it(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    async def archive() -> None: ...

    heard: list[Event] = []

    @jobs.on(archive)
    async def tell(ctx: Context, event: Event) -> None:
        heard.append(event)

    @jobs.on(archive, key="object_id")
    async def count(ctx: Context, event: Event) -> None:
        await effect(ctx, event.facts["n"])

    happened = Event("things.archive", "things", new_id(), {"n": 7})
    async with acting() as ctx:
        await jobs.announce(ctx, archive, happened)
        await jobs.announce(ctx, drain, happened)  # nobody subscribed to that
    lines = await own_superuser.fetch("SELECT headers ->> 'line' AS line FROM pgqueuer ORDER BY id")
    assert [row["line"] for row in lines] == [None, f"None:tests.count:{happened.object_id}"]
    await drain(own_resources)
    assert heard == [happened]
    assert await effects(own_superuser) == ["7"]


async def test_a_delayed_job_waits(acting: Acting, own_resources: Resources, own_superuser: Any) -> None:
    @jobs.job()
    async def later(ctx: Context) -> None:
        await effect(ctx, "later")

    async with acting() as ctx:
        await jobs.enqueue(ctx, later, delay=timedelta(hours=1))
    await drain(own_resources)
    assert await effects(own_superuser) == []
    assert await states(own_superuser) == {"queued": 1}


async def test_what_other_organizations_jobs_carry_cannot_be_read(
    acting: Acting, own_superuser: asyncpg.Connection[Any]
) -> None:
    async with acting(tenant=new_id()) as ctx:
        assert await ctx.work.raw.fetchval("SELECT count(*) FROM pgqueuer WHERE status = 'queued'") == 0
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await ctx.work.raw.fetch("SELECT payload FROM pgqueuer")
        await ctx.work.abandon()


# Once


async def test_effects_and_the_end_of_the_job_are_one_transaction(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    """Whoever looks sees the effect without the job or the job without the effect, never both, never neither."""

    @jobs.job()
    async def work(ctx: Context) -> None:
        await effect(ctx, "x")

    async with acting() as ctx:
        for _ in range(30):
            await jobs.enqueue(ctx, work)
    looks = 0
    async with working(own_resources):
        while True:
            row = await own_superuser.fetchrow(
                "SELECT (SELECT count(*) FROM effects) AS done, (SELECT count(*) FROM pgqueuer) AS left"
            )
            assert row["done"] + row["left"] == 30
            looks += 1
            if row["left"] == 0:
                break
    assert looks > 1


async def test_a_job_whose_commit_fails_leaves_no_effect_and_is_tried_again(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    runs = 0

    @jobs.job(retry=SOON)
    async def work(ctx: Context) -> None:
        nonlocal runs
        runs += 1
        await effect(ctx, f"run {runs}")
        if runs == 1:  # the connection dies after the work is done and before it is committed
            await own_superuser.execute("SELECT pg_terminate_backend($1)", ctx.work.raw.get_server_pid())

    async with acting() as ctx:
        await jobs.enqueue(ctx, work)
    async with working(own_resources):
        await until(lambda: _is(states(own_superuser), {}))
    assert await effects(own_superuser) == ["run 2"]


async def _is(found: Any, wanted: Any) -> bool:
    return bool(await found == wanted)


async def test_a_running_job_is_not_taken_over_however_late_its_heartbeat(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    begun, finish = await _enqueue_slow_job(acting)

    @jobs.job()
    async def quick(ctx: Context) -> None: ...

    async with working(own_resources, workers=2, heartbeat_timeout=timedelta(seconds=1)):
        await until(lambda: _at_least(begun, 1))
        for _ in range(10):
            await own_superuser.execute(LATE)
            async with acting() as ctx:  # makes both workers look for work, and see the late one
                await jobs.enqueue(ctx, quick)
            await until(lambda: _is(own_superuser.fetchval("SELECT count(*) FROM pgqueuer"), 1))
        assert await own_superuser.fetchval("SELECT attempts FROM pgqueuer") == 0
        finish.set()
        await until(lambda: _is(states(own_superuser), {}))
    assert len(begun) == 1
    assert await effects(own_superuser) == ["x"]


async def test_without_the_lock_on_its_row_the_job_would_run_twice_at_once(
    acting: Acting,
    own_resources: Resources,
    own_superuser: asyncpg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It bites. Even then only one run commits: the other finds its job gone."""
    from service.guardrails.jobs import runner

    monkeypatch.setattr(runner, "OWN", runner.OWN.replace("FOR KEY SHARE", ""))
    begun, finish = await _enqueue_slow_job(acting)

    async def run_twice() -> bool:
        await own_superuser.execute(LATE)
        return len(begun) == 2

    async with working(own_resources, workers=2, heartbeat_timeout=timedelta(seconds=1)):
        await until(run_twice)
        finish.set()
        await until(lambda: _is(states(own_superuser), {}))
    assert await effects(own_superuser) == ["x"]


async def _at_least(found: list[int], count: int) -> bool:
    return len(found) >= count


LATE = "UPDATE pgqueuer SET heartbeat = now() - interval '1 hour'"


async def _enqueue_slow_job(acting: Acting) -> tuple[list[int], asyncio.Event]:
    """One entry per run that has begun; to be set by the test for the runs to end."""
    begun: list[int] = []
    finish = asyncio.Event()

    @jobs.job()
    async def slow(ctx: Context) -> None:
        await effect(ctx, "x")
        begun.append(len(begun))
        await finish.wait()

    async with acting() as ctx:
        await jobs.enqueue(ctx, slow)
    return begun, finish


async def test_a_run_that_lost_its_job_does_not_touch_the_new_owners(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    owner = new_id()

    @jobs.job(retry=Retry(attempts=1))
    async def late(ctx: Context) -> None:
        await own_superuser.execute("UPDATE pgqueuer SET queue_manager_id = $1", owner)
        raise ConnectionError

    async with acting() as ctx:
        await jobs.enqueue(ctx, late)
    with capture_logs() as logged:
        await drain(own_resources)
    assert [entry["outcome"] for entry in logged if entry["event"] == "job"] == ["lost"]
    row = await own_superuser.fetchrow("SELECT status::text, attempts, queue_manager_id FROM pgqueuer")
    assert tuple(row) == ("picked", 0, owner)


async def test_old_entries_of_the_librarys_log_and_old_dead_letters_go(
    own_maintenance: Database, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    await own_superuser.execute(
        "INSERT INTO pgqueuer_log (created, job_id, status, priority, entrypoint)"
        " SELECT now() - age * interval '1 day', 1, 'successful', 0, 'x' FROM unnest(ARRAY[1, 6, 8, 30]) AS age;"
        "INSERT INTO pgqueuer (updated, priority, status, entrypoint)"
        " SELECT now() - age * interval '1 day', 0, 'failed', 'x' FROM unnest(ARRAY[80, 100]) AS age"
    )
    async with own_maintenance.unit_of_work() as work:
        await forget_old_entries(Context(work, own_resources, SYSTEM, Caller("purge")))
    assert await own_superuser.fetchval("SELECT count(*) FROM pgqueuer_log") == 2
    assert await states(own_superuser) == {"failed": 1}


# Retry, dead letter, replay, deadline


async def test_a_failing_job_is_retried_held_and_replayed(
    acting: Acting, own_resources: Resources, own_maintenance: Database, own_superuser: asyncpg.Connection[Any]
) -> None:
    broken, runs = True, 0

    @jobs.job(retry=SOON)
    async def fragile(ctx: Context) -> None:
        nonlocal runs
        runs += 1
        await effect(ctx, runs)
        if broken:
            raise ConnectionError("mail to ada@example.com refused")

    tenant = new_id()
    async with acting(tenant=tenant) as ctx:
        await jobs.enqueue(ctx, fragile)
    async with working(own_resources):
        await until(lambda: _is(states(own_superuser), {"failed": 1}))
        assert (runs, await effects(own_superuser)) == (3, [])
        async with own_maintenance.unit_of_work() as work:
            (letter,) = await jobs.failed(work)
            assert (letter.name, letter.error, letter.attempts) == ("tests.fragile", "ConnectionError", 3)
            assert letter.organization_id == str(tenant)
            broken = False
            assert await jobs.replay(work, [letter.id, 10**12]) == 1
        await until(lambda: _is(states(own_superuser), {}))
    assert await effects(own_superuser) == ["4"]


async def test_staff_can_look_at_dead_letters_and_replay_them_as_the_application_role(acting: Acting) -> None:
    async with acting() as ctx:
        assert await jobs.failed(ctx.work) == []
        assert await jobs.replay(ctx.work, [1]) == 0


async def test_a_retry_without_a_wait_is_picked_up_by_the_worker_that_just_failed(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    """It was once taken for one that still runs here, and lay untouched for half a minute."""
    runs = 0

    @jobs.job(retry=Retry(attempts=40, first=timedelta(0)))
    async def hasty(ctx: Context) -> None:
        nonlocal runs
        runs += 1
        if runs < 40:
            raise ConnectionError

    async with acting() as ctx:
        await jobs.enqueue(ctx, hasty)
    async with working(own_resources):
        await until(lambda: _is(states(own_superuser), {}))
    assert runs == 40


async def test_a_job_over_its_deadline_fails_with_everything_it_did(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    @jobs.job(retry=Retry(attempts=1), timeout=timedelta(milliseconds=150))
    async def drips(ctx: Context) -> None:
        for _ in range(100):  # each step is quick: only a deadline for the whole ends it
            await effect(ctx, "drip")
            await asyncio.sleep(0.02)

    async with acting() as ctx:
        await jobs.enqueue(ctx, drips)
    await drain(own_resources)
    assert await states(own_superuser) == {"failed": 1}
    assert await own_superuser.fetchval("SELECT headers ->> 'error' FROM pgqueuer") == "TimeoutError"
    assert await effects(own_superuser) == []


async def test_a_job_that_cancels_itself_does_not_run_for_ever(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    @jobs.job(retry=Retry(attempts=1))
    async def confused(ctx: Context) -> None:
        raise asyncio.CancelledError

    async with acting() as ctx:
        await jobs.enqueue(ctx, confused)
    await drain(own_resources)
    assert await states(own_superuser) == {"failed": 1}


async def test_a_job_with_arguments_of_another_version_becomes_a_dead_letter(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    @jobs.job(retry=Retry(attempts=1))
    async def greet(ctx: Context, user_id: UUID) -> None: ...

    async with acting() as ctx:
        await jobs.enqueue(ctx, greet, user_id="not an id")
    await drain(own_resources)
    assert await own_superuser.fetchval("SELECT headers ->> 'error' FROM pgqueuer") == "ValidationError"


def test_waits_double_up_to_the_longest_and_are_spread() -> None:
    retry = Retry(first=timedelta(seconds=2), longest=timedelta(seconds=60))
    waits = [[retry.delay(attempt).total_seconds() for _ in range(200)] for attempt in (0, 3, 50, 5000)]
    for spread, full in zip(waits, (2, 16, 60, 60), strict=True):
        assert full / 2 <= min(spread) < max(spread) <= full
        assert max(spread) - min(spread) > full / 4


async def test_neither_log_nor_table_shows_what_an_error_quotes(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any], capfd: Any
) -> None:
    @jobs.job(retry=Retry(attempts=2, first=timedelta(milliseconds=5)))
    async def leaky(ctx: Context, email: str) -> None:
        raise ValueError(f"no mailbox {email}")

    with capture_logs() as logged:
        async with acting() as ctx:
            await jobs.enqueue(ctx, leaky, email="ada@example.com")
        async with working(own_resources):
            await until(lambda: _is(states(own_superuser), {"failed": 1}))
    outcomes = [entry["outcome"] for entry in logged if entry["event"] == "job"]
    assert outcomes == ["retry", "failed"]
    where = next(entry["where"] for entry in logged if entry["event"] == "job")
    assert "test_jobs.py" in where
    assert "leaky" in where
    rows = await own_superuser.fetch("SELECT to_jsonb(j) - 'payload' AS line FROM pgqueuer j")
    rows += await own_superuser.fetch("SELECT to_jsonb(l) AS line FROM pgqueuer_log l")
    assert len(rows) >= 5
    output = capfd.readouterr()
    for text in (json.dumps(logged, default=str), output.out, output.err, *(row["line"] for row in rows)):
        assert "ada@example.com" not in text


# Order


async def test_jobs_of_one_key_run_one_at_a_time_in_order_beside_others(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    running: dict[str, int] = {}
    most: dict[str, int] = {}
    all_at_once = 0

    @jobs.job(key="customer", retry=Retry(attempts=5, first=timedelta(milliseconds=5)))
    async def bill(ctx: Context, customer: str, number: int) -> None:
        nonlocal all_at_once
        running[customer] = running.get(customer, 0) + 1
        most[customer] = max(most.get(customer, 0), running[customer])
        all_at_once = max(all_at_once, sum(running.values()))
        try:
            await asyncio.sleep(0.004)
            await effect(ctx, f"{customer}{number}")
            attempts = await ctx.work.raw.fetchval("SELECT max(attempts) FROM pgqueuer WHERE status = 'picked'")
            if number == 2 and attempts == 0:
                raise ConnectionError("the head of the line fails once, and the line waits for it")
        finally:
            running[customer] -= 1

    for number in range(8):
        async with acting(tenant=new_id() if number > 100 else None) as ctx:
            for customer in "abcd":
                await jobs.enqueue(ctx, bill, customer=customer, number=number)
    async with working(own_resources, workers=2):
        await until(lambda: _is(states(own_superuser), {}))
    done = await effects(own_superuser)
    for customer in "abcd":
        assert [what for what in done if what.startswith(customer)] == [f"{customer}{n}" for n in range(8)]
    assert set(most.values()) == {1}
    assert all_at_once > 1, "different keys should have run at the same time"


async def test_without_lines_order_is_lost(
    acting: Acting,
    own_resources: Resources,
    own_superuser: asyncpg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It bites: pgqueuer alone runs the second while the first still waits for its retry."""
    from service.guardrails.jobs import picking

    monkeypatch.setattr(picking, "PICK", picking.PICK.replace("line IS NULL OR id =", "true OR id ="))
    await own_superuser.execute("DROP INDEX pgqueuer_one_picked_per_line")
    try:
        tried: list[int] = []

        @jobs.job(key="customer", retry=Retry(attempts=5, first=timedelta(milliseconds=50)))
        async def bill(ctx: Context, customer: str, number: int) -> None:
            tried.append(number)
            if tried == [0]:
                raise ConnectionError
            await effect(ctx, number)

        async with acting() as ctx:
            for number in range(3):
                await jobs.enqueue(ctx, bill, customer="a", number=number)
        async with working(own_resources):
            await until(lambda: _is(states(own_superuser), {}))
        assert await effects(own_superuser) != ["0", "1", "2"]
    finally:
        await own_superuser.execute(
            "CREATE UNIQUE INDEX pgqueuer_one_picked_per_line ON pgqueuer ((headers ->> 'line'))"
            " WHERE status = 'picked' AND headers ->> 'line' IS NOT NULL"
        )


async def test_a_long_line_behind_a_failing_job_costs_the_other_jobs_nothing(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    async def pages_read(followers: int) -> int:
        await own_superuser.execute("TRUNCATE pgqueuer")
        await own_superuser.execute(
            "INSERT INTO pgqueuer (priority, status, entrypoint, execute_after, headers)"
            " SELECT 0, 'queued', 'tests.step', now() + CASE WHEN n = 0 THEN interval '1 hour' ELSE '-1 s' END,"
            f' \'{{"line": "busy"}}\' FROM generate_series(0, {followers}) AS n;'
            "INSERT INTO pgqueuer (priority, status, entrypoint, headers)"
            " SELECT 0, 'queued', 'tests.step', ('{\"line\": ' || line || '}')::jsonb FROM"
            " unnest(ARRAY['null', '\"free\"', '\"also free\"']) AS line; ANALYZE pgqueuer"
        )
        plan = await own_superuser.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {PICK}", ["tests.step"], 5, new_id(), timedelta(seconds=30), 10
        )
        picked = await own_superuser.fetch("SELECT headers ->> 'line' AS line FROM pgqueuer WHERE status = 'picked'")
        assert {row["line"] for row in picked} == {None, "free", "also free"}
        return int(json.loads(plan)[0]["Plan"]["Shared Hit Blocks"])

    short, long = await pages_read(300), await pages_read(6000)
    assert long < short * 1.5, f"{short} pages with 300 waiting, {long} with 6,000"


async def test_a_dead_letter_lets_its_line_go_on(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    @jobs.job(retry=SOON)
    async def step(ctx: Context, number: int) -> None:
        if number == 0:
            raise ConnectionError
        await effect(ctx, number)

    async with acting() as ctx:
        for number in range(3):
            await jobs.enqueue(ctx, step, key="the line", number=number)
    async with working(own_resources):
        await until(lambda: _is(states(own_superuser), {"failed": 1}))
    assert await effects(own_superuser) == ["1", "2"]


async def test_two_organizations_with_the_same_key_do_not_wait_for_each_other(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    together = asyncio.Barrier(2)

    @jobs.job(timeout=timedelta(seconds=5), retry=Retry(attempts=1))
    async def meet(ctx: Context) -> None:
        await together.wait()

    for _ in range(2):
        async with acting(tenant=new_id()) as ctx:
            await jobs.enqueue(ctx, meet, key="report")
    await drain(own_resources)
    assert await states(own_superuser) == {}


async def test_two_of_one_line_can_never_be_picked_whatever_the_query_says(
    acting: Acting, own_superuser: asyncpg.Connection[Any]
) -> None:
    @jobs.job()
    async def step(ctx: Context) -> None: ...

    async with acting() as ctx:
        for _ in range(2):
            await jobs.enqueue(ctx, step, key="the line")
    with pytest.raises(asyncpg.UniqueViolationError):
        await own_superuser.execute("UPDATE pgqueuer SET status = 'picked'")


# Stopping and dying


async def test_stopping_lets_running_jobs_finish(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    started = asyncio.Event()

    @jobs.job()
    async def brief(ctx: Context) -> None:
        started.set()
        await asyncio.sleep(0.3)
        await effect(ctx, "finished")

    async with acting() as ctx:
        await jobs.enqueue(ctx, brief)
    async with working(own_resources):
        await started.wait()
    assert await effects(own_superuser) == ["finished"]
    assert await states(own_superuser) == {}


async def test_what_is_not_done_in_time_is_handed_back_and_no_attempt_is_counted(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    started = asyncio.Event()

    @jobs.job()
    async def endless(ctx: Context) -> None:
        await effect(ctx, "half")
        started.set()
        await asyncio.sleep(20)

    async with acting() as ctx:
        await jobs.enqueue(ctx, endless)
    loop = asyncio.get_running_loop()
    async with working(own_resources):
        await started.wait()
        began = loop.time()
    assert loop.time() - began < own_resources.settings.graceful_timeout_seconds
    row = await own_superuser.fetchrow("SELECT status::text, attempts, queue_manager_id FROM pgqueuer")
    assert tuple(row) == ("queued", 0, None)
    assert await effects(own_superuser) == []


PROCESS = """
import asyncio, os, sys
from datetime import timedelta
from service.core.settings import get_settings
from service.guardrails import jobs
from service import worker

@jobs.job(retry=jobs.Retry(attempts=3))
async def mortal(ctx, number: int):
    await ctx.work.raw.execute("INSERT INTO effects (what) VALUES ($1)", f"{number} by {os.getpid()}")
    if os.environ["HANG"] == "1":
        print("started", flush=True)
        await asyncio.sleep(60)

asyncio.run(worker.run(get_settings(), heartbeat_timeout=timedelta(seconds=2)))
"""


@pytest.fixture
async def start_worker(own_settings: Settings) -> AsyncIterator[Callable[..., subprocess.Popen[str]]]:
    """A worker in a process of its own, with the job `mortal`, which hangs when told to."""
    started = []

    def start(*, hang: bool) -> subprocess.Popen[str]:
        environment = os.environ | {
            "DATABASE_URL": own_settings.database_url.get_secret_value(),
            "DATABASE_MAINTENANCE_URL": own_settings.database_maintenance_url.get_secret_value(),
            "GRACEFUL_TIMEOUT_SECONDS": "4",
            "LOG_LEVEL": "INFO",
            "HANG": str(int(hang)),
            "PYTHONPATH": str(ROOT),
        }
        process = subprocess.Popen(
            [sys.executable, "-c", PROCESS],
            env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


async def _enqueue_mortal(acting: Acting, count: int) -> None:
    async def mortal(ctx: Context, number: int) -> None: ...

    mortal.__module__ = "__main__"
    jobs.job()(mortal)
    async with acting() as ctx:
        for number in range(count):
            await jobs.enqueue(ctx, mortal, number=number)


async def _wait_for(process: subprocess.Popen[str], word: str) -> list[str]:
    assert process.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(30):
        while not lines or word not in lines[-1]:
            line = await asyncio.to_thread(process.stdout.readline)
            assert line, f"the worker ended: {lines}"
            lines.append(line)
    return lines


async def test_kill_nine_loses_no_job_and_doubles_none(
    acting: Acting, own_superuser: asyncpg.Connection[Any], start_worker: Any
) -> None:
    await _enqueue_mortal(acting, 3)
    first = start_worker(hang=True)
    for _ in range(3):
        await _wait_for(first, "started")
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert await states(own_superuser) == {"picked": 3}
    second = start_worker(hang=False)
    await until(lambda: _is(states(own_superuser), {}), seconds=30)
    assert sorted(await effects(own_superuser)) == [f"{number} by {second.pid}" for number in range(3)]


async def test_a_job_that_kills_its_worker_ends_as_a_dead_letter(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    @jobs.job(retry=Retry(attempts=3))
    async def bomb(ctx: Context) -> None:
        await effect(ctx, "boom")

    async with acting() as ctx:
        await jobs.enqueue(ctx, bomb)
    # What two workers that died running it, and a third, have left behind.
    await own_superuser.execute(
        "UPDATE pgqueuer SET status = 'picked', attempts = 2, queue_manager_id = gen_random_uuid(),"
        " heartbeat = now() - interval '1 hour'"
    )
    await drain(own_resources)
    assert await states(own_superuser) == {"failed": 1}
    assert await own_superuser.fetchval("SELECT headers ->> 'error' FROM pgqueuer") == "LostJob"
    assert await effects(own_superuser) == []


async def test_sigterm_hands_back_and_ends_in_time(
    acting: Acting, own_superuser: asyncpg.Connection[Any], start_worker: Any
) -> None:
    await _enqueue_mortal(acting, 1)
    process = start_worker(hang=True)
    await _wait_for(process, "started")
    process.send_signal(signal.SIGTERM)
    rest = await asyncio.wait_for(asyncio.to_thread(process.communicate), 4 + 3)
    assert process.returncode == 0, rest
    assert await states(own_superuser) == {"queued": 1}
    assert await effects(own_superuser) == []
    age = await own_superuser.fetchval("SELECT extract(epoch FROM now() - max(beat_at)) FROM worker_heartbeats")
    assert age < 20


async def test_a_worker_survives_the_loss_of_every_connection(
    acting: Acting, own_superuser: asyncpg.Connection[Any], start_worker: Any
) -> None:
    process = start_worker(hang=False)
    await _wait_for(process, "worker started")
    await _enqueue_mortal(acting, 1)
    await until(lambda: _is(states(own_superuser), {}), seconds=20)
    await own_superuser.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename = 'ballast_maintenance'"
    )
    JOBS.clear()
    await _enqueue_mortal(acting, 1)
    await until(lambda: _is(states(own_superuser), {}), seconds=20)
    assert process.poll() is None
    assert len(await effects(own_superuser)) == 2


# By the clock, traces, numbers


async def test_a_periodic_job_runs_as_maintenance_and_once_for_two_workers(
    own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    @jobs.periodic("* * * * * *")
    async def tick(ctx: Context) -> None:
        await effect(ctx, await ctx.work.raw.fetchval("SELECT current_user || ' ' || date_trunc('second', now())"))

    async with working(own_resources, workers=2):
        await until(lambda: _two_effects(own_superuser))
    done = await effects(own_superuser)
    assert all(what.startswith("ballast_maintenance ") for what in done)
    assert len(set(done)) == len(done), "two workers ticked in the same second"


async def _two_effects(superuser: asyncpg.Connection[Any]) -> bool:
    return len(await effects(superuser)) >= 2


async def test_the_trace_of_the_request_goes_on_in_the_job(acting: Acting, own_resources: Resources) -> None:
    traces: list[str] = []

    @jobs.job()
    async def look(ctx: Context) -> None:
        trace = telemetry.current_trace()
        assert trace is not None
        traces.append(trace.hex)

        await jobs.enqueue(ctx, look_further)

    @jobs.job()
    async def look_further(ctx: Context) -> None:
        trace = telemetry.current_trace()
        assert trace is not None
        traces.append(trace.hex)
        traces.append(str(ctx.on_behalf_of))
        traces.append(ctx.caller.request_id)

    from opentelemetry.trace import SpanKind

    with telemetry.root_span("GET /", SpanKind.SERVER) as trace:
        async with acting(actor=ADA, request_id="req-11") as ctx:
            await jobs.enqueue(ctx, look)
    with capture_logs() as logged:
        await drain(own_resources)
    assert traces == [trace.hex, trace.hex, str(ADA), "req-11"]
    assert [entry["outcome"] for entry in logged if entry["event"] == "job"] == ["done", "done"]


async def test_a_job_without_a_known_body_stays_until_somebody_knows_it(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    @jobs.job()
    async def removed(ctx: Context) -> None: ...

    async with acting() as ctx:
        await jobs.enqueue(ctx, removed)
    del JOBS[job_of(removed).name]

    @jobs.job()
    async def other(ctx: Context) -> None: ...

    await drain(own_resources)
    assert await states(own_superuser) == {"queued": 1}


async def test_metrics_tell_what_waits_what_failed_and_whether_anybody_works(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    @jobs.job()
    async def idle(ctx: Context) -> None: ...

    await own_superuser.execute("TRUNCATE worker_heartbeats")
    await jobs.measure(own_resources)
    assert _value("worker_heartbeat_age_seconds") == float("inf")
    async with acting() as ctx:
        for _ in range(3):
            await jobs.enqueue(ctx, idle)
        await jobs.enqueue(ctx, idle, delay=timedelta(hours=1))
    await own_superuser.execute(
        "UPDATE pgqueuer SET status = 'failed' WHERE id = (SELECT min(id) FROM pgqueuer);"
        "UPDATE pgqueuer SET execute_after = now() - interval '90 s' WHERE id = (SELECT min(id) + 1 FROM pgqueuer);"
        "INSERT INTO worker_heartbeats VALUES (gen_random_uuid(), now() - interval '30 s', 1.5)"
    )
    await jobs.measure(own_resources)
    assert (_value("jobs_ready"), _value("jobs_failed")) == (2, 1)
    assert 89 < _value("jobs_oldest_age_seconds") < 95
    assert 29 < _value("worker_heartbeat_age_seconds") < 35
    assert _value("audit_seal_lag_seconds") == 1.5


def _value(name: str) -> float:
    found = telemetry.REGISTRY.get_sample_value(name)
    assert found is not None
    return found


async def test_security_events_of_a_job_are_written(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    @jobs.job(retry=Retry(attempts=1))
    async def suspicious(ctx: Context) -> None:
        ctx.note("things.look", "denied")
        await audit.record(ctx, "things.touch", audit.Changes(), {})
        raise ConnectionError

    async with acting(tenant=new_id(), actor=ADA) as ctx:
        await jobs.enqueue(ctx, suspicious)
    await drain(own_resources)
    (row,) = await own_superuser.fetch(
        "SELECT action, actor_kind, on_behalf_of FROM audit_log ORDER BY id DESC LIMIT 1"
    )
    assert tuple(row) == ("things.look", "system", ADA.id)


def test_two_jobs_cannot_have_one_name() -> None:
    async def twin(ctx: Context) -> None: ...

    jobs.job()(twin)
    with pytest.raises(ValueError, match="twin"):
        jobs.job()(twin)


def test_the_migration_holds_exactly_what_this_version_of_the_library_installs() -> None:
    """After an upgrade of pgqueuer: write a migration with `pgq upgrade --plan`, then renew this file."""
    from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment

    stored = (ROOT / "migrations" / "sql" / "jobs_pgqueuer.sql").read_text()
    assert QueryBuilderEnvironment().build_install_query().strip() in stored
