"""A job runs once: its effects and its end are one transaction, and nobody takes over what still runs."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from service.core.context import SYSTEM, Caller, Context, Resources
from service.core.database import LOST, Database
from service.core.ids import new_id
from service.guardrails import jobs
from service.guardrails.jobs import Retry
from service.guardrails.jobs.queue import forget_old_entries
from tests.guardrails.jobs_at_work import SOON, drain, effect, effects, equals, states, until, working

if TYPE_CHECKING:
    from tests.guardrails.durability import Acting

pytest_plugins = "tests.guardrails.durability"
pytestmark = pytest.mark.usefixtures("empty_queue")


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
            with suppress(*LOST):
                await ctx.work.raw.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    async with acting() as ctx:
        await jobs.enqueue(ctx, work)
    async with working(own_resources):
        await until(lambda: equals(states(own_superuser), {}))
    assert await effects(own_superuser) == ["run 2"]


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
            await until(lambda: equals(own_superuser.fetchval("SELECT count(*) FROM pgqueuer"), 1))
        assert await own_superuser.fetchval("SELECT attempts FROM pgqueuer") == 0
        finish.set()
        await until(lambda: equals(states(own_superuser), {}))
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
        await until(lambda: equals(states(own_superuser), {}))
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
