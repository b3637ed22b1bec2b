"""Putting jobs into pgqueuer's table in the caller's transaction, looking at them, and bringing dead letters back."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from pgqueuer.adapters.persistence.qb import QueryQueueBuilder
from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from service.core import telemetry
from service.core.context import Context, Resources
from service.core.database import Base, UnitOfWork
from service.guardrails.jobs.batches import SECONDS, in_batches
from service.guardrails.jobs.registry import SUBSCRIBERS, WITHIN, Body, Event, Job, job_of, periodic
from service.guardrails.personal_data import internal
from service.guardrails.retention import days_after

ENQUEUE = QueryQueueBuilder().build_enqueue_query()
ENQUEUE_ONCE = QueryQueueBuilder().build_enqueue_query("skip")
REPLAY = QueryQueueBuilder().build_requeue_jobs_query()
FAILED = """
    SELECT id, entrypoint AS name, headers ->> 'tenant' AS organization_id, headers ->> 'error' AS error, attempts,
        created AS enqueued_at, updated AS failed_at
    FROM pgqueuer WHERE status = 'failed' ORDER BY updated DESC LIMIT $1
"""
MEASURE = """
    SELECT
        (SELECT count(*) FROM pgqueuer WHERE status = 'queued' AND execute_after <= now()) AS ready,
        (SELECT extract(epoch FROM now() - min(execute_after))::float8 FROM pgqueuer
            WHERE status = 'queued' AND execute_after <= now()) AS oldest,
        (SELECT count(*) FROM pgqueuer WHERE status = 'failed') AS failed,
        extract(epoch FROM now() - max(beat_at))::float8 AS silence,
        (SELECT seal_lag_seconds FROM worker_heartbeats ORDER BY beat_at DESC LIMIT 1) AS seal_lag
    FROM worker_heartbeats
"""


def _old(table: str, column: str, age: str, which: str = "") -> str:
    some = f"SELECT ctid FROM {table} WHERE {which}{column} < now() - interval '{age}' LIMIT $1"  # noqa: S608
    return f"DELETE FROM {table} WHERE ctid = ANY(ARRAY({some}))"  # noqa: S608 - all of it our own words


class WorkerHeartbeat(Base):
    """One row per worker process, renewed every few seconds; /metrics of the web process reads the newest."""

    __tablename__ = "worker_heartbeats"
    __retention__ = days_after("beat_at", days=1, reason="a worker that stopped is of no interest after a day")
    __table_args__ = (Index(None, "beat_at"),)

    worker_id: Mapped[UUID] = mapped_column(primary_key=True, info=internal())
    beat_at: Mapped[datetime] = mapped_column(info=internal())
    seal_lag_seconds: Mapped[float] = mapped_column(info=internal())


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A job that failed for good; `error` is the class of its last exception, whose text might be personal."""

    id: int
    name: str
    organization_id: str | None
    error: str
    attempts: int
    enqueued_at: datetime
    failed_at: datetime


async def enqueue(
    ctx: Context, body: Body, *, key: str | None = None, delay: timedelta | None = None, **arguments: Any
) -> None:
    """Run `body(ctx, **arguments)` after this transaction has committed; a rollback takes the job with it.

    `key` puts it in a line with every job of the organization that has the same key. Raises TypeError for an argument
    that the job does not take, LookupError for a function that is no job.
    """
    await _add(ctx, [(job_of(body), arguments)], key, delay or timedelta())


async def enqueue_each(ctx: Context, body: Body, each: Sequence[dict[str, Any]]) -> None:
    """One job for each set of arguments, in one statement."""
    if each:
        await _add(ctx, [(job_of(body), arguments) for arguments in each], None, timedelta())


async def announce(ctx: Context, action: Any, event: Event) -> None:
    """Run what belongs into this transaction, and enqueue the jobs that subscribed; called by `@action`."""
    for body in WITHIN.get(action, ()):
        await body(ctx, event)
    if subscribers := SUBSCRIBERS.get(action):
        await _add(ctx, [(job, {"event": event}) for job in subscribers], None, timedelta())


async def _add(ctx: Context, jobs: Sequence[tuple[Job, dict[str, Any]]], key: str | None, delay: timedelta) -> None:
    raw, tenant, user = ctx.work.raw, ctx.work.tenant, ctx.work.user
    if not raw.is_in_transaction():
        # On a connection outside a transaction each statement commits by itself: the job would survive the rollback.
        raise RuntimeError("a job can only be enqueued inside a unit of work")
    trace = telemetry.current_trace()
    origin = {
        "tenant": str(tenant) if tenant else None,
        "user": str(user) if user else None,
        "actor": str(ctx.on_behalf_of or ctx.responsible),
        "request": ctx.caller.request_id,
        "traceparent": trace.traceparent() if trace else None,
    }
    lines = [job.line(arguments) if key is None else key for job, arguments in jobs]
    headers = [orjson.dumps(origin | {"line": f"{tenant}:{line}" if line else None}).decode() for line in lines]
    count = len(jobs)
    names, payloads = [job.name for job, _ in jobs], [job.pack(arguments) for job, arguments in jobs]
    began = time.time_ns()
    await raw.execute(ENQUEUE, [0] * count, names, payloads, [delay] * count, [None] * count, headers)
    telemetry.record_statement(ENQUEUE, began)


async def failed(work: UnitOfWork, limit: int = 100) -> list[DeadLetter]:
    """The dead letters, newest first."""
    return [DeadLetter(**row) for row in await work.raw.fetch(FAILED, limit)]


async def replay(work: UnitOfWork, ids: Sequence[int]) -> int:
    """Give dead letters their attempts back, at the front of their line; how many there were."""
    return int((await work.raw.execute(REPLAY, list(ids))).rsplit(" ", 1)[1])


async def measure(resources: Resources) -> None:
    """Set the gauges about jobs, workers and sealing; called when /metrics is read."""
    async with resources.database.unit_of_work(read_only=True) as work:
        found = await work.raw.fetchrow(MEASURE)
    telemetry.jobs_ready.set(found["ready"])
    telemetry.jobs_oldest_age.set(found["oldest"] or 0)
    telemetry.jobs_failed.set(found["failed"])
    telemetry.worker_heartbeat_age.set(math.inf if found["silence"] is None else found["silence"])
    telemetry.audit_seal_lag.set(math.nan if found["seal_lag"] is None else found["seal_lag"])


OLD_ENTRIES = (
    _old("pgqueuer_log", "created", "7 days"),
    _old("pgqueuer_statistics", "created", "90 days"),
    _old("pgqueuer", "updated", "90 days", "status = 'failed' AND "),
)


@periodic("40 * * * *")
async def forget_old_entries(ctx: Context) -> None:
    """A line per step of every job: a week is enough. A dead letter that nobody replayed goes after 90 days."""
    for statement in OLD_ENTRIES:
        await in_batches(ctx, statement, seconds=SECONDS / len(OLD_ENTRIES))
