"""Work that happens after the commit: enqueued in the caller's transaction, run by the worker, retried, never lost.

Protects from: the mail for a change that was rolled back, the change whose mail got lost, the job that ran twice.
How to use, in a feature's jobs.py:

    @on(actions.archive_indicator)                      # reacts to an action
    async def tell_subscribers(ctx: Context, event: Event) -> None: ...

    @within(actions.archive_indicator)                  # not a job: a row of the action's own transaction
    async def note(ctx: Context, event: Event) -> None: ...

    @job(key="user_id", retry=Retry(attempts=5))        # one at a time per user, in order
    async def send_welcome(ctx: Context, user_id: UUID) -> None: ...

    await jobs.enqueue(ctx, send_welcome, user_id=user.id)

    @periodic("0 3 * * *")                              # as the maintenance role, across organizations
    async def purge(ctx: Context) -> None: ...

A job sees what whoever enqueued it could see (tenant and person), acts as the system on their behalf, and runs in one
transaction that also removes it from the queue: what it does in PostgreSQL happens exactly once. What it does outside
(mail, HTTP) happens AT LEAST once: a crash between the effect and the commit repeats it, so give the outside world an
idempotency key. After its last attempt a job is held as a dead letter (`failed`, `replay`).

Limits: jobs with a key run in the order they were enqueued, and one that waits (for its retry, or because it was
delayed) holds up those behind it until it is done or dead; two transactions that are open at the same time have no
order, so lock the row that the key names. A job's body may take `timeout` in all. Arguments are ids, not contents.
"""

from service.guardrails.jobs.queue import announce, enqueue, enqueue_each, failed, measure, replay
from service.guardrails.jobs.registry import JOBS, Event, Retry, job, on, pause, periodic, standing, within

__all__ = [
    "JOBS", "Event", "Retry", "announce", "enqueue", "enqueue_each", "failed", "job", "measure", "on", "pause",
    "periodic", "replay", "standing", "within",
]  # fmt: skip
