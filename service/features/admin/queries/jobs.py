"""What the workers have before them and in hand: the queue as staff search it, without what a job carries."""

from __future__ import annotations

from sqlalchemy import bindparam, literal_column, select

from service.core.context import Context
from service.features.admin.schemas import JobRead, JobState, JobsWanted
from service.guardrails.actions import query
from service.guardrails.jobs.dead import QUEUE
from service.guardrails.pagination import Keyset, Page, Position, paginate
from service.guardrails.permissions import Who

_columns = select(
    QUEUE.c.id,
    QUEUE.c.entrypoint.label("name"),
    QUEUE.c.headers["tenant"].astext.label("organization_id"),
    QUEUE.c.attempts,
    QUEUE.c.created.label("enqueued_at"),
    QUEUE.c.execute_after.label("due_at"),
    QUEUE.c.updated.label("changed_at"),
)
_named = QUEUE.c.entrypoint == bindparam("name")
_states = {
    JobState.WAITING: ("queued", (QUEUE.c.execute_after.asc(), QUEUE.c.id.asc())),
    JobState.RUNNING: ("picked", (QUEUE.c.updated.asc(), QUEUE.c.id.asc())),
    JobState.GIVEN_UP: ("failed", (QUEUE.c.updated.desc(), QUEUE.c.id.desc())),
}
JOBS_IN = {
    (state, named): Keyset(
        _columns.where(literal_column(f"pgqueuer.status = '{word}'"), *([_named] if named else [])), order=order
    )
    for state, (word, order) in _states.items()
    for named in (False, True)
}
"""Each its own statement with the state written out: the queue's indexes are partial ones."""


@query("admin.list_jobs", requires=Who.STAFF)
async def list_jobs(ctx: Context, wanted: JobsWanted, page: Position) -> Page[JobRead]:
    """The next due first, of those that run the longest running; what is done leaves the queue."""
    named = {"name": wanted.name} if wanted.name else {}
    return await paginate(ctx, JOBS_IN[wanted.state, bool(named)], page, JobRead, **named)
