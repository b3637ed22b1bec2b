"""Jobs of one key run in order, and hold up nobody else."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from service.core.context import Context, Resources
from service.core.ids import new_id
from service.guardrails import jobs
from service.guardrails.jobs import Retry
from service.guardrails.jobs.picking import PICK
from tests.guardrails.jobs_at_work import SOON, drain, effect, effects, equals, states, until, working

if TYPE_CHECKING:
    from tests.guardrails.durability import Acting

pytest_plugins = "tests.guardrails.durability"
pytestmark = pytest.mark.usefixtures("empty_queue")


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
        await until(lambda: equals(states(own_superuser), {}))
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
    """It bites: pgqueuer alone runs the second before the first has been tried again."""
    from service.guardrails.jobs import picking

    monkeypatch.setattr(picking, "PICK", picking.PICK.replace("line IS NULL OR id =", "true OR id ="))
    await own_superuser.execute("DROP INDEX pgqueuer_one_picked_per_line")
    try:
        tried: list[int] = []
        overtaken = asyncio.Event()

        @jobs.job(key="customer", retry=Retry(attempts=5, first=timedelta(milliseconds=50)))
        async def bill(ctx: Context, customer: str, number: int) -> None:
            tried.append(number)
            if tried == [0]:
                raise ConnectionError
            if number == 0:
                await overtaken.wait()  # which would never come if the others stood in line behind it
            await effect(ctx, number)
            if number == 1:
                overtaken.set()

        async with acting() as ctx:
            for number in range(3):
                await jobs.enqueue(ctx, bill, customer="a", number=number)
        async with working(own_resources):
            await asyncio.wait_for(overtaken.wait(), 60)
            await until(lambda: equals(states(own_superuser), {}))
        assert sorted(await effects(own_superuser)) == ["0", "1", "2"]
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
        await until(lambda: equals(states(own_superuser), {"failed": 1}))
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
