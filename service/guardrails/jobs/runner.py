"""One run of one job: its transaction, its deadline, its end. Every end is written by the owner of the job only."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from opentelemetry.trace import SpanKind
from pgqueuer.adapters.persistence.qb import QueryQueueBuilder
from pgqueuer.domain.models import Job as Row
from sqlalchemy.exc import SQLAlchemyError

from service.core import telemetry
from service.core.context import SYSTEM, Actor, ActorKind, Caller, Context, Resources
from service.core.database import LOST, Database, UnitOfWork
from service.core.errors import ServiceError
from service.core.logging import get_logger
from service.guardrails import audit
from service.guardrails.jobs.registry import JOBS, Job
from service.guardrails.jobs.runs import RAN

log = get_logger()

AWAY: tuple[type[Exception], ...] = (*LOST, SQLAlchemyError, ServiceError)
"""How it shows that the database is away."""

# KEY SHARE lets heartbeats through and makes every other worker's pick skip the row for as long as this lives.
OWN = """
    SELECT set_config('idle_in_transaction_session_timeout', $3, true) FROM pgqueuer
    WHERE id = $1 AND queue_manager_id = $2 AND status = 'picked' FOR KEY SHARE
"""
FINISH = QueryQueueBuilder().build_log_job_query()
# pgqueuer's trigger tells the workers of new and finished jobs only; these three ends may also free a line.
END = """
    WITH ended AS (
        UPDATE pgqueuer SET status = $3::pgqueuer_status, execute_after = now() + $4::interval, updated = now(),
            attempts = attempts + $5, queue_manager_id = NULL,
            headers = headers || jsonb_build_object('error', $6::text)
        WHERE id = $1 AND queue_manager_id = $2 AND status = 'picked'
        RETURNING id, status, entrypoint, priority
    ), logged AS (
        INSERT INTO pgqueuer_log (job_id, status, entrypoint, priority)
        SELECT id, status, entrypoint, priority FROM ended
    )
    SELECT pg_notify('ch_pgqueuer', json_build_object('channel', 'ch_pgqueuer', 'operation', 'update', 'sent_at', now(),
        'table', 'pgqueuer', 'type', 'table_changed_event')::text) FROM ended
"""


FOR_STANDING = 4
"""Connections left to the work that stands beside the jobs; of a small pool, half."""


class LostJob(Exception):
    """The job is another worker's by now: this run must leave no trace."""


class Runner:
    """Runs what one worker has picked, no more at once than there are connections to spare.

    `forget` takes a job off pgqueuer's list of what runs here: it ignores a picked job that is still on it, so one that
    is queued again has to go first. (Without, a quick retry lay picked and untouched until its heartbeat was old.)
    """

    def __init__(self, resources: Resources, maintenance: Database, forget: Callable[[Any], object]) -> None:
        self.resources, self.maintenance, self.forget = resources, maintenance, forget
        self.running: set[asyncio.Task[Any]] = set()
        size = resources.database.size
        self._free = asyncio.Semaphore(max(1, size // 2, size - FOR_STANDING))
        # One stays free for heartbeats, seals and the ends of jobs.
        self._free_maintenance = asyncio.Semaphore(max(1, maintenance.size - 1))

    async def run(self, row: Row) -> None:
        """Run a picked job to one of its ends: done, queued again, held; or handed back when we are stopped."""
        job, origin = JOBS[row.entrypoint], row.headers or {}
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - we are in one
        self.running.add(task)
        began = time.perf_counter()
        facts = {"job": job.name, "job_id": row.id, "attempt": row.attempts + 1, "actor": "system"}
        facts["organization"] = origin.get("tenant") or ""
        try:
            with (
                structlog.contextvars.bound_contextvars(request_id=str(origin.get("request") or ""), **facts),
                telemetry.root_span(f"job {job.name}", SpanKind.CONSUMER, _text(origin.get("traceparent"))),
            ):
                outcome, details = await self._outcome(job, row, origin, task)
                seconds = time.perf_counter() - began
                level = log.error if outcome == "failed" else log.info
                level("job", outcome=outcome, duration_ms=round(seconds * 1000, 2), **details)
                telemetry.jobs_finished.labels(job.name, outcome).inc()
                telemetry.jobs_duration.labels(job.name).observe(seconds)
        finally:
            self.running.discard(task)

    async def _outcome(
        self, job: Job, row: Row, origin: dict[str, Any], task: asyncio.Task[Any]
    ) -> tuple[str, dict[str, Any]]:
        try:
            if row.attempts >= job.retry.attempts:
                raise LostJob
            async with self._free_maintenance if job.maintenance else self._free:
                async with asyncio.timeout(job.timeout.total_seconds()):
                    await self._transact(job, row, origin)
        except (Exception, asyncio.CancelledError) as error:  # whatever a job raises has to become one of its ends
            if isinstance(error, asyncio.CancelledError) and task.cancelling():
                await asyncio.shield(self._end(row, "queued", timedelta(), 0, ""))
                log.info("job", outcome="handed back")
                raise
            status = "failed" if row.attempts + 1 >= job.retry.attempts else "queued"
            kind = type(error).__name__
            ended = await self._end(row, status, job.retry.delay(row.attempts), 1, kind)
            outcome = {"failed": "failed", "queued": "retry"}[status] if ended else "lost"
            return outcome, {"error": kind, "where": where(error)}
        return "done", {}

    async def _transact(self, job: Job, row: Row, origin: dict[str, Any]) -> None:
        """The body and the end of the job in one transaction: both happen, or neither."""
        database = self.maintenance if job.maintenance else self.resources.database
        async with database.connection() as connection:
            work = UnitOfWork(connection)
            ctx = _context(work, self.resources, origin)
            try:
                await work.begin(tenant=ctx.organization_id, user=_uuid(origin.get("user")), read_only=False)
                patience = str(int(job.timeout.total_seconds() * 1000))
                if not await work.raw.fetch(OWN, row.id, row.queue_manager_id, patience):
                    raise LostJob
                began = time.perf_counter()
                await job.body(ctx, **job.unpack(row.payload or b"{}"))
                if job.schedule:
                    await work.raw.execute(RAN, job.name, round((time.perf_counter() - began) * 1000))
                if await work.raw.execute(FINISH, [row.id], ["successful"], [None]) != "INSERT 0 1":
                    raise LostJob
                await work.commit()
            finally:
                await work.close()
                if ctx.security_events:
                    await audit.write_security_events(ctx)

    async def _end(self, row: Row, status: str, wait: timedelta, attempt: int, error: str) -> bool:
        """Queue it again or hold it, if it is still ours; whether it was."""
        self.forget(row.id)
        for pause in (0.2, 1, 5, 0):
            try:
                async with self.maintenance.connection() as connection:
                    raw = UnitOfWork(connection).raw
                    return bool(await raw.fetch(END, row.id, row.queue_manager_id, status, wait, attempt, error))
            except AWAY as problem:
                log.warning("end of job not written", error=type(problem).__name__)
                await asyncio.sleep(pause)
        return False  # its heartbeat stops now, so some worker picks it up when the database is back


def _context(work: UnitOfWork, resources: Resources, origin: dict[str, Any]) -> Context:
    kind, _, identifier = str(origin.get("actor") or SYSTEM).partition(":")
    starter = Actor(ActorKind(kind), UUID(identifier) if identifier else None)
    return Context(
        work,
        resources,
        SYSTEM,
        Caller(request_id=str(origin.get("request") or "")),
        organization_id=_uuid(origin.get("tenant")),
        on_behalf_of=None if starter == SYSTEM else starter,
    )


def where(error: BaseException) -> str:
    """The last place of ours that an error passed; never its text, which may quote somebody's data."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/lib/python" not in frame.filename] or frames
    return f"{ours[-1].filename}:{ours[-1].lineno} {ours[-1].name}" if ours else ""


def _uuid(value: Any) -> UUID | None:
    return UUID(str(value)) if value else None


def _text(value: Any) -> str | None:
    return str(value) if value else None
