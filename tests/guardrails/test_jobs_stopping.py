"""Stopping hands back, a kill loses nothing, and a worker survives its connections."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from service import worker
from service.app import close_resources, create_resources
from service.core.context import Context, Resources
from service.core.database import Database
from service.core.settings import Settings
from service.guardrails import jobs
from service.guardrails.jobs import Retry
from service.guardrails.jobs.registry import GIVEN_UP, JOBS, STANDING
from tests.guardrails.jobs_at_work import drain, effect, effects, equals, states, until, working

if TYPE_CHECKING:
    from tests.guardrails.durability import Acting

pytest_plugins = "tests.guardrails.durability"
pytestmark = pytest.mark.usefixtures("empty_queue")

ROOT = Path(__file__).resolve().parents[2]


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


async def test_what_stands_ends_its_step_before_the_worker_does(
    own_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was cut off the moment no job ran: a webhook was sent, not written down, and sent again."""
    began, ended = asyncio.Event(), asyncio.Event()

    async def slow(resources: Resources, maintenance: Database, stop: asyncio.Event) -> None:
        began.set()
        await stop.wait()
        await asyncio.sleep(1.2)
        ended.set()

    monkeypatch.setitem(STANDING, "slow", slow)
    running = asyncio.create_task(worker.run(own_settings))
    await began.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await running
    assert ended.is_set()
    asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
    asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)


async def test_nothing_that_stands_sleeps_through_the_end(own_settings: Settings) -> None:
    """One slept for minutes between two looks, so each worker took all the time it is given before it is killed."""
    worker._load_jobs()
    assert len(STANDING) >= 10
    resources = create_resources(own_settings, maintenance=True)
    assert resources.maintenance is not None
    stop = asyncio.Event()
    standing = {
        name: asyncio.ensure_future(body(resources, resources.maintenance, stop)) for name, body in STANDING.items()
    }
    await asyncio.sleep(1)
    stop.set()
    for name in GIVEN_UP:
        standing[name].cancel()
    await asyncio.wait(standing.values(), timeout=own_settings.graceful_timeout_seconds)
    asleep = [name for name, task in standing.items() if not task.done()]
    for task in standing.values():
        task.cancel()
    await asyncio.gather(*standing.values(), return_exceptions=True)
    await close_resources(resources)
    assert not asleep, f"{asleep}: rest with jobs.pause(stop, seconds)"


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
    async with asyncio.timeout(60):
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
    await until(lambda: equals(states(own_superuser), {}), seconds=60)
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
    rest = await asyncio.wait_for(asyncio.to_thread(process.communicate), 4 + 26)
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
    await until(lambda: equals(states(own_superuser), {}), seconds=60)
    await own_superuser.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename = 'ballast_maintenance'"
    )
    JOBS.clear()
    await _enqueue_mortal(acting, 1)
    await until(lambda: equals(states(own_superuser), {}), seconds=60)
    assert process.poll() is None
    assert len(await effects(own_superuser)) == 2
