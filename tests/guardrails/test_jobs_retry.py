"""What fails is tried again, held as a dead letter, replayed, and stopped at its deadline."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest
from structlog.testing import capture_logs

from service.core.context import Context, Resources
from service.core.database import Database
from service.core.ids import new_id
from service.guardrails import jobs
from service.guardrails.jobs import Retry
from service.guardrails.jobs.runner import where
from tests.guardrails.jobs_at_work import SOON, drain, effect, effects, equals, states, until, working

if TYPE_CHECKING:
    from tests.guardrails.durability import Acting

pytest_plugins = "tests.guardrails.durability"
pytestmark = pytest.mark.usefixtures("empty_queue")


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
        await until(lambda: equals(states(own_superuser), {"failed": 1}))
        assert (runs, await effects(own_superuser)) == (3, [])
        async with own_maintenance.unit_of_work() as work:
            (letter,) = await jobs.failed(work)
            assert (letter.name, letter.error, letter.attempts) == ("tests.fragile", "ConnectionError", 3)
            assert letter.organization_id == str(tenant)
            broken = False
            assert await jobs.replay(work, [letter.id, 10**12]) == 1
        await until(lambda: equals(states(own_superuser), {}))
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
        await until(lambda: equals(states(own_superuser), {}))
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
            await until(lambda: equals(states(own_superuser), {"failed": 1}))
    outcomes = [entry["outcome"] for entry in logged if entry["event"] == "job"]
    assert outcomes == ["retry", "failed"]
    where = next(entry["where"] for entry in logged if entry["event"] == "job")
    assert "test_jobs_retry.py" in where
    assert "leaky" in where
    rows = await own_superuser.fetch("SELECT to_jsonb(j) - 'payload' AS line FROM pgqueuer j")
    rows += await own_superuser.fetch("SELECT to_jsonb(l) AS line FROM pgqueuer_log l")
    assert len(rows) >= 5
    output = capfd.readouterr()
    for text in (json.dumps(logged, default=str), output.out, output.err, *(row["line"] for row in rows)):
        assert "ada@example.com" not in text


def test_the_log_names_our_line_and_not_the_librarys() -> None:
    """Most errors are raised inside a driver: its last line says nothing about which statement of ours it was."""
    with pytest.raises(ValueError, match="Expecting") as raised:
        json.loads("{")
    assert "test_jobs_retry.py" in where(raised.value)
    assert "decoder.py" not in where(raised.value)
