"""Who is due, and how many at once: a few per outside system, so that one that hangs keeps its own places alone."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from uuid import UUID

from service.core import clock
from service.core.context import Resources
from service.core.database import Database, UnitOfWork
from service.core.logging import get_logger
from service.features.sources.flows import metrics
from service.features.sources.flows.pull import pull
from service.features.sources.models import Kind
from service.guardrails.jobs.runner import AWAY

log = get_logger()

AT_ONCE = 4
"""Per outside system and worker."""
POLL_SECONDS = 0.5
# A deleted organization's sources rest: nobody looks at what they would bring, and they come back with it.
WAITING = """
    deleted_at IS NULL AND paused_at IS NULL AND next_pull_at <= $1
    AND EXISTS (SELECT FROM organizations WHERE id = sources.organization_id AND organizations.deleted_at IS NULL)
"""
# Kind by kind: the oldest of all may be a thousand of one kind, and those of another would wait behind them.
DUE = f"""
    SELECT due.* FROM unnest($2::text[], $3::int[]) AS free (kind, places) CROSS JOIN LATERAL (
        SELECT id, organization_id, kind FROM sources
        WHERE {WAITING} AND (lease_until IS NULL OR lease_until < $1)
          AND sources.kind = free.kind AND NOT id = ANY($4::uuid[])
        ORDER BY next_pull_at LIMIT free.places
    ) AS due
"""  # noqa: S608 - our own constant
OLDEST = f"""
    SELECT coalesce(extract(epoch FROM $1 - min(first.next_pull_at))::float8, 0)
    FROM unnest($2::text[]) AS every (kind) CROSS JOIN LATERAL (
        SELECT next_pull_at FROM sources WHERE {WAITING} AND sources.kind = every.kind ORDER BY next_pull_at LIMIT 1
    ) AS first
"""  # noqa: S608 - our own constant
Running = dict[UUID, tuple[str, asyncio.Task[str]]]


async def run(resources: Resources, maintenance: Database, stop: asyncio.Event) -> None:
    """Ask for whatever is due until `stop`."""
    running: Running = {}
    try:
        while not stop.is_set():
            await start_due(resources, maintenance, running)
            await _rest(running)
            for source_id, (_, task) in list(running.items()):
                if task.done():
                    del running[source_id]
                    if error := task.exception():
                        log.error("source pull lost", source=str(source_id), error=type(error).__name__)
    finally:
        for _, task in running.values():
            task.cancel()
        await asyncio.gather(*(task for _, task in running.values()), return_exceptions=True)


async def _rest(running: Running) -> None:
    """A moment, or until a place is free: many that are due do not wait for the clock between each few."""
    if tasks := [task for _, task in running.values()]:
        await asyncio.wait(tasks, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    else:
        await asyncio.sleep(POLL_SECONDS)


async def start_due(resources: Resources, maintenance: Database, running: Running) -> int:
    """Begin with those that are due and have a place; how many that were."""
    taken = Counter(kind for kind, _ in running.values())
    room = {kind.value: AT_ONCE - taken[kind] for kind in Kind if taken[kind] < AT_ONCE}
    if not room:
        return 0
    try:
        async with maintenance.connection() as connection:
            due = await UnitOfWork(connection).raw.fetch(
                DUE, clock.now(), list(room), list(room.values()), list(running)
            )
    except AWAY:
        return 0  # the next round finds them
    for row in due:
        task = asyncio.create_task(pull(resources, row["organization_id"], row["id"]))
        running[row["id"]] = row["kind"], task
    return len(due)


async def measure(resources: Resources) -> None:
    """How long the first has waited; told by the worker, whose role sees every organization."""
    metrics.overdue.set(math.nan)
    if resources.maintenance is not None:
        async with resources.maintenance.connection() as connection:
            oldest = await UnitOfWork(connection).raw.fetchval(OLDEST, clock.now(), [kind.value for kind in Kind])
            metrics.overdue.set(oldest)
