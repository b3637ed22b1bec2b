"""Whose turn it is to compare with Stripe: each sweep has a row that says when it ran, and whoever moves it sweeps.

A worker that dies in the middle leaves its turn to the next after an hour at most; one that is told to stop, or finds
Stripe away, gives it back at once. What was found stays in the row, for the staff pages and the gauges.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import orjson

from service.core.context import Resources
from service.core.database import Database, UnitOfWork
from service.core.logging import get_logger
from service.features.billing.flows import bulk, events, reconcile
from service.integrations.stripe.client import StripeApi
from service.integrations.stripe.errors import StripeFailed

log = get_logger()

LONGEST_TURN = timedelta(hours=1)
SOON = timedelta(minutes=1)
TAKE = """
    INSERT INTO billing_sweeps AS sweep (stream, cursor, ran_at, drift) VALUES ($1, 0, now() - $2::interval + $3, '{}')
    ON CONFLICT (stream) DO UPDATE SET ran_at = excluded.ran_at WHERE sweep.ran_at <= now() - $2::interval
    RETURNING cursor, drift
"""
DONE = """
    UPDATE billing_sweeps SET ran_at = now() - $2::interval + $3, cursor = $4, drift = coalesce($5::jsonb, drift)
    WHERE stream = $1
"""

Work = Callable[[Resources, Database, int], Awaitable[tuple[int, dict[str, int]]]]
"""Takes the cursor; answers the new one, and what was found, by kind."""


@dataclass(frozen=True, slots=True)
class Sweep:
    every: timedelta
    work: Work


async def _events(resources: Resources, maintenance: Database, cursor: int) -> tuple[int, dict[str, int]]:
    return await events.read_events(resources, cursor), {}


async def _objects(resources: Resources, maintenance: Database, cursor: int) -> tuple[int, dict[str, int]]:
    return 0, reconcile.counts(await reconcile.compare_objects(resources, maintenance))


async def _everything(resources: Resources, maintenance: Database, cursor: int) -> tuple[int, dict[str, int]]:
    return 0, reconcile.counts(await reconcile.compare_objects(resources, maintenance, full=True))


async def _bulk(resources: Resources, maintenance: Database, cursor: int) -> tuple[int, dict[str, int]]:
    await bulk.read_in_bulk(resources)
    return 0, {}


SWEEPS = {
    "events": Sweep(timedelta(minutes=5), _events),
    "objects": Sweep(timedelta(hours=1), _objects),
    reconcile.EVERYTHING: Sweep(timedelta(days=1), _everything),
    "bulk": Sweep(SOON, _bulk),
}


async def sweep_when_due(resources: Resources, maintenance: Database, stream: str) -> bool:
    """Do one sweep if it is due and nobody else does it; False: not now."""
    sweep = SWEEPS[stream]
    turn = min(sweep.every, LONGEST_TURN)
    if not resources.get(StripeApi).enabled:
        return False
    async with resources.database.connection() as connection:
        row = await UnitOfWork(connection).raw.fetchrow(TAKE, stream, sweep.every, turn)
    if row is None:
        return False
    cursor, before = row["cursor"], row["drift"]
    try:
        new, drift = await sweep.work(resources, maintenance, cursor)
    except (Exception, asyncio.CancelledError) as error:
        await asyncio.shield(_finish(resources, stream, SOON, cursor, None))
        if not isinstance(error, StripeFailed):
            raise
        log.warning("billing sweep failed", stream=stream, error=str(error))
        return False
    # What was found is being mended: looked at again soon, so that the alert ends with its cause. What no reading mends
    # waits for people, and the whole account is not read every hour meanwhile.
    await _finish(resources, stream, turn if drift and drift != before else sweep.every, new, drift)
    log.info("billing sweep", stream=stream, drift=drift)
    return True


async def _finish(
    resources: Resources, stream: str, again: timedelta, cursor: int, drift: dict[str, int] | None
) -> None:
    found = None if drift is None else orjson.dumps(drift).decode()
    async with resources.database.connection() as connection:
        await UnitOfWork(connection).raw.execute(DONE, stream, SWEEPS[stream].every, again, cursor, found)
