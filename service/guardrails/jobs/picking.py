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

# Whose turn it is. Usually the first jobs that are due tell; when all of those wait in a line, the heads of all lines
# are looked up one by one, so that a line of 100,000 behind a failing job costs the others milliseconds, not seconds.
CANDIDATES = """
    WITH RECURSIVE due AS MATERIALIZED (
        SELECT id, headers ->> 'line' AS line FROM pgqueuer
        WHERE status = 'queued' AND entrypoint = ANY($1) AND execute_after <= now()
        ORDER BY execute_after, id LIMIT 200
    ), near AS MATERIALIZED (
        SELECT id FROM due WHERE line IS NULL OR id = (
            SELECT head.id FROM pgqueuer AS head
            WHERE head.headers ->> 'line' = due.line AND head.status IN ('queued', 'picked')
            ORDER BY head.status DESC, head.id LIMIT 1
        )
        LIMIT 4 * $2
    ), heads AS (
        (SELECT headers ->> 'line' AS line, id FROM pgqueuer
        WHERE headers ->> 'line' IS NOT NULL AND status IN ('queued', 'picked')
          AND NOT EXISTS (SELECT FROM near) AND (SELECT count(*) FROM due) = 200
        ORDER BY headers ->> 'line', status DESC, id LIMIT 1)
        UNION ALL
        SELECT following.line, following.id FROM heads CROSS JOIN LATERAL (
            SELECT headers ->> 'line' AS line, id FROM pgqueuer
            WHERE headers ->> 'line' > heads.line AND status IN ('queued', 'picked')
            ORDER BY headers ->> 'line', status DESC, id LIMIT 1
        ) AS following
    ), free AS MATERIALIZED (
        SELECT id FROM near
        UNION ALL SELECT id FROM heads
        UNION ALL (
            SELECT id FROM pgqueuer
            WHERE status = 'queued' AND headers ->> 'line' IS NULL AND entrypoint = ANY($1) AND execute_after <= now()
              AND NOT EXISTS (SELECT FROM near)
            ORDER BY execute_after, id LIMIT 4 * $2
        )
    )
"""
IS_DUE = "job.status = 'queued' AND job.entrypoint = ANY($1) AND job.execute_after <= now()"
READY = f"{CANDIDATES} SELECT count(*) AS ready FROM free JOIN pgqueuer AS job USING (id) WHERE {IS_DUE}"  # noqa: S608
# A worker that died holds its jobs until their heartbeat is old; one whose transaction still runs holds a lock on the
# row, so its job is skipped even when the heartbeat is late. A lost run counts as an attempt: a job that kills its
# worker each time must end as a dead letter, not take down one worker after another for ever.
PICK = f"""
    {CANDIDATES}, room AS (
        SELECT greatest(least($2, $5 - count(*)), 0) AS jobs FROM pgqueuer WHERE queue_manager_id = $3
    ), fresh AS (
        SELECT job.id FROM pgqueuer AS job WHERE job.id IN (SELECT id FROM free) AND {IS_DUE}
        ORDER BY job.execute_after, job.id LIMIT (SELECT jobs FROM room) FOR UPDATE OF job SKIP LOCKED
    ), lost AS (
        SELECT job.id FROM pgqueuer AS job
        WHERE job.status = 'picked' AND job.entrypoint = ANY($1) AND job.heartbeat < now() - $4::interval
        ORDER BY job.id LIMIT (SELECT jobs FROM room) FOR UPDATE OF job SKIP LOCKED
    ), picked AS (
        UPDATE pgqueuer AS job
        SET status = 'picked', updated = now(), heartbeat = now(), queue_manager_id = $3,
            attempts = attempts + (job.id IN (SELECT id FROM lost))::integer
        WHERE job.id IN (SELECT id FROM lost UNION ALL SELECT id FROM fresh LIMIT (SELECT jobs FROM room))
        RETURNING job.*
    ), logged AS (
        INSERT INTO pgqueuer_log (job_id, status, entrypoint, priority)
        SELECT id, status, entrypoint, priority FROM picked
    )
    SELECT * FROM picked ORDER BY id
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
            rows = await self.driver.fetch(PICK, names, batch_size, queue_manager_id, heartbeat_timeout, limit)
        except UniqueViolationError:
            return []  # another worker took the same line at the same moment; look again
        return [models.Job.model_validate(row) for row in rows]

    async def eligible_queued_work(self, entrypoints: list[Any]) -> int:
        rows = await self.driver.fetch(READY, entrypoints, 1)
        return int(str(rows[0]["ready"]))

    async def queued_work(self, entrypoints: list[Any]) -> int:
        return await self.eligible_queued_work(entrypoints)

    async def log_jobs(self, job_status: list[Any]) -> None:
        """Nothing: by now the runner has removed the job, queued it again, or held it."""
