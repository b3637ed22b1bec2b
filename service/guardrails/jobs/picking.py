"""Which job is next: pgqueuer's queue with lines (one job per key at a time, in order) and owners that can be lost.

pgqueuer picks by age alone and writes the end of a job by its id, whoever owns it by now. Here a job whose line is
busy waits, and the runner writes every end itself, in the job's own transaction and only while it owns the job.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from asyncpg import UniqueViolationError
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.domain import models

FREE_LINE = """
    NOT EXISTS (
        SELECT FROM pgqueuer AS ahead
        WHERE ahead.headers ->> 'line' = job.headers ->> 'line' AND ahead.status IN ('queued', 'picked')
          AND (ahead.status = 'picked' OR ahead.id < job.id)
    )
"""
# A worker that died holds its jobs until their heartbeat is old; one whose transaction still runs holds a lock on the
# row, so its job is skipped even when the heartbeat is late. A lost run counts as an attempt: a job that kills its
# worker each time must end as a dead letter, not take down one worker after another for ever.
PICK = f"""
    WITH room AS (
        SELECT greatest(least($1, $5 - count(*)), 0) AS jobs FROM pgqueuer WHERE queue_manager_id = $3
    ), fresh AS (
        SELECT job.id FROM pgqueuer AS job
        WHERE job.status = 'queued' AND job.entrypoint = ANY($2) AND job.execute_after <= now() AND {FREE_LINE}
        ORDER BY job.id LIMIT (SELECT jobs FROM room) FOR UPDATE OF job SKIP LOCKED
    ), lost AS (
        SELECT job.id FROM pgqueuer AS job
        WHERE job.status = 'picked' AND job.entrypoint = ANY($2) AND job.heartbeat < now() - $4::interval
        ORDER BY job.id LIMIT (SELECT jobs FROM room) FOR UPDATE OF job SKIP LOCKED
    ), picked AS (
        UPDATE pgqueuer AS job
        SET status = 'picked', updated = now(), heartbeat = now(), queue_manager_id = $3,
            attempts = attempts + (job.id IN (SELECT id FROM lost))::integer
        WHERE job.id IN (SELECT id FROM fresh UNION ALL SELECT id FROM lost LIMIT (SELECT jobs FROM room))
        RETURNING job.*
    ), logged AS (
        INSERT INTO pgqueuer_log (job_id, status, entrypoint, priority)
        SELECT id, status, entrypoint, priority FROM picked
    )
    SELECT * FROM picked ORDER BY id
"""  # noqa: S608 - constants
READY = f"""
    SELECT count(*) AS ready FROM (
        SELECT FROM pgqueuer AS job
        WHERE job.status = 'queued' AND job.entrypoint = ANY($1) AND job.execute_after <= now() AND {FREE_LINE} LIMIT 1
    ) AS first
"""  # noqa: S608 - constants


class LineQueries(Queries):
    """What pgqueuer asks the database; four of its questions are answered differently."""

    async def dequeue(
        self,
        batch_size: int,
        entrypoints: Iterable[Any],
        queue_manager_id: Any,
        global_concurrency_limit: int | None,
        heartbeat_timeout: timedelta,
    ) -> list[models.Job]:
        limit = global_concurrency_limit or batch_size
        names = list(entrypoints)
        try:
            rows = await self.driver.fetch(PICK, batch_size, names, queue_manager_id, heartbeat_timeout, limit)
        except UniqueViolationError:
            return []  # another worker took the same line at the same moment; look again
        return [models.Job.model_validate(row) for row in rows]

    async def eligible_queued_work(self, entrypoints: list[Any]) -> int:
        rows = await self.driver.fetch(READY, entrypoints)
        return int(str(rows[0]["ready"]))

    async def queued_work(self, entrypoints: list[Any]) -> int:
        return await self.eligible_queued_work(entrypoints)

    async def log_jobs(self, job_status: list[Any]) -> None:
        """Nothing: by now the runner has removed the job, queued it again, or held it."""
