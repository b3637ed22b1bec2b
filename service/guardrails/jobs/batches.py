"""Much to change or to delete by the clock: some at a time, each batch committed by itself, and not for ever.

One statement over all that is due runs into the database's time-out on the first busy day; nothing is done then, and
more is due the next time. Limits: a round ends after `SECONDS`, because the job's own transaction holds up the sealing
of the audit log meanwhile; so call it often enough for the rounds to keep up.
"""

from __future__ import annotations

import time

from service.core.context import Context

AT_ONCE = 1_000
SECONDS = 20.0


async def in_batches(ctx: Context, statement: str, *, at_once: int = AT_ONCE, seconds: float = SECONDS) -> int:
    """Repeat `statement`, which touches $1 rows at most, until it finds fewer or the round is over; how many in all."""
    if ctx.resources.maintenance is None:
        raise RuntimeError("this needs the maintenance role (DATABASE_MAINTENANCE_URL): run it in the worker")
    done, until = 0, time.monotonic() + seconds
    while True:
        async with ctx.resources.maintenance.unit_of_work() as work:
            touched = int((await work.raw.execute(statement, at_once)).rsplit(" ", 1)[1])
        done += touched
        if touched < at_once or time.monotonic() > until:
            return done
