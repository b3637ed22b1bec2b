"""Connects pgqueuer's loop, the registered jobs and the runner, until told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.core.applications import PgQueuer
from pgqueuer.domain.models import Schedule
from pgqueuer.domain.types import QueueExecutionMode

from service.core.context import Resources
from service.core.database import Database
from service.core.regions import everywhere
from service.guardrails.jobs.picking import LineQueries
from service.guardrails.jobs.queue import ENQUEUE_ONCE
from service.guardrails.jobs.registry import JOBS
from service.guardrails.jobs.runner import Runner

REACH = everywhere("one PostgreSQL, at home, with the queue")
HEARTBEAT_TIMEOUT = timedelta(seconds=30)
"""A picked job without a sign of life for so long is taken to be lost with its worker."""
HAND_BACK_SECONDS = 2


async def consume(
    resources: Resources,
    maintenance: Database,
    stop: asyncio.Event,
    *,
    heartbeat_timeout: timedelta = HEARTBEAT_TIMEOUT,
    until_empty: bool = False,
) -> None:
    """Run jobs until `stop`, or until none is due. Raises one of AWAY when the database is."""
    settings = resources.settings
    url = settings.database_maintenance_url.get_secret_value()
    connection = await asyncpg.connect(url, timeout=5, server_settings={"application_name": "ballast-queue"})
    try:
        driver = AsyncpgDriver(connection)
        queue = PgQueuer(driver, queries=LineQueries(driver))
        running_here = queue.qm.job_context
        runner = Runner(resources, maintenance, lambda job_id: running_here.pop(job_id, None))
        for job in JOBS.values():
            queue.entrypoint(job.name, accepts_context=False)(runner.run)
            if job.schedule and not until_empty:
                queue.schedule(job.name, job.schedule, accepts_context=False)(_enqueue_by_clock(driver))
        room = max(2, resources.database.size)
        working = asyncio.create_task(
            (queue.qm if until_empty else queue).run(
                dequeue_timeout=timedelta(seconds=2),
                batch_size=room // 2,
                max_concurrent_tasks=room,
                mode=QueueExecutionMode.drain if until_empty else QueueExecutionMode.continuous,
                heartbeat_timeout=heartbeat_timeout,
            )
        )
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            queue.shutdown.set()
            await asyncio.wait({working}, timeout=max(0, settings.graceful_timeout_seconds - HAND_BACK_SECONDS))
        finally:
            # What still runs is rolled back and queued again: a job that outlasts a deployment must not block it.
            queue.shutdown.set()
            for task in runner.running.copy():
                task.cancel()
            stopping.cancel()
            await asyncio.wait({working}, timeout=HAND_BACK_SECONDS)
            working.cancel()
        if working.done():
            working.result()
    finally:
        await connection.close()


def _enqueue_by_clock(driver: AsyncpgDriver) -> Callable[[Schedule], Awaitable[None]]:
    async def tick(schedule: Schedule) -> None:
        """A periodic job goes through the queue like any other; while one waits or runs, the next is left out."""
        await driver.execute(
            ENQUEUE_ONCE, [0], [schedule.entrypoint], [b"{}"], [timedelta()], [schedule.entrypoint], ["{}"]
        )

    return tick
