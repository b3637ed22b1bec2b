"""The five storms, and one of them from its first event until both sides are quiet."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import asyncpg

from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.records import Event
from load.headline.lag import Watch
from load.headline.people import Person
from load.headline.truth import NAIVE, OURS, wrong
from load.headline.world import World
from service.core.context import Resources
from service.features.billing.flows.reconcile import compare_objects

UPGRADES_PER_SECOND = 4
QUIET_SECONDS = 300.0
ON_ITS_WAY = 1.0
"""Seconds the sweep waits before it calls a difference drift; the product waits a minute, as not all is quiet there."""
SWEEPS = 5
LATE = {"reorder_window": 0.2}


@dataclass(frozen=True)
class Storm:
    name: str
    knobs: dict[str, Any] = field(default_factory=dict)


STORMS = (
    Storm("serial", {"serial": True}),
    Storm("concurrent"),
    Storm("reordered", LATE),
    Storm("duplicates, 10 % lost", {**LATE, "duplicate": 0.2, "duplicate_within": 0.2, "drop": 0.1}),
    Storm("Stripe API errors", {"api_error_before": 0.1, "api_429": 0.1, "api_latency_max": 0.3}),
)


@dataclass(frozen=True)
class Outcome:
    """What one storm left behind; `lag` in seconds (p50, p99)."""

    storm: str
    customers: int
    events: int
    deliveries: int
    naive_wrong: list[str]
    ours_wrong: list[str]
    drift: int
    """Differences that the sweep found and had mended."""
    fetches: float
    calls: float
    """Per event, as `fetches`."""
    lag: tuple[float, float]
    seconds: float


class NeverQuiet(Exception):
    """Something still waits after five minutes; the text says what."""


async def rage(
    stage: World, storm: Storm, people: list[Person], ours: asyncpg.Connection, naive: asyncpg.Connection,
    eyes: asyncpg.Connection, resources: Resources, pace: float,
) -> Outcome:  # fmt: skip
    """Let every cycle close, at most `pace` a second, wait for quiet, sweep, and count who is wrong.

    `eyes` is a second connection to ours. Raises NeverQuiet.
    """
    stripe, began = stage.stripe, time.monotonic()
    stripe.asked.clear()
    before = {event.id for event in stripe.account.events.newest_first()}
    stripe.knobs = StripeKnobs.model_validate({"seed": stage.random.randrange(2**31), **storm.knobs})
    async with Watch(eyes).running() as watch:
        for number, person in enumerate(people):
            await asyncio.sleep(max(0.0, began + number / pace - time.monotonic()))
            await person.live_through_it(stage.random, partial(watch.changed, person))
        await quiet(stage, ours)
        # The storm is over: a sweep that Stripe answers with errors only begins again a minute later.
        stripe.knobs = StripeKnobs()
        drift = 0
        for _ in range(SWEEPS):
            found = await compare_objects(resources, resources.maintenance or resources.database, settle=ON_ITS_WAY)
            await quiet(stage, ours)
            if not found:
                break
            drift += sum(map(len, found.values()))
    made = [event for event in stripe.account.events.newest_first() if event.id not in before]
    return Outcome(
        storm=storm.name,
        customers=len(people),
        events=len(made),
        deliveries=sum(map(_attempts, made)),
        naive_wrong=await wrong(naive, NAIVE, people),
        ours_wrong=await wrong(ours, OURS, people),
        drift=drift,
        fetches=stripe.asked["fetches"] / len(made),
        calls=stripe.asked["calls"] / len(made),
        lag=(watch.percentile(0.5), watch.percentile(0.99)),
        seconds=time.monotonic() - began,
    )


async def quiet(stage: World, ours: asyncpg.Connection) -> None:
    """Every delivery was accepted, and ours has read whatever it was told of. Raises NeverQuiet."""
    ends = time.monotonic() + QUIET_SECONDS
    if not await asyncio.to_thread(stage.stripe.account.courier.settle, QUIET_SECONDS):
        stage.insist_on_life()
        raise NeverQuiet(f"{stage.stripe.account.courier.pending()} deliveries are still on the way")
    while rows := await ours.fetch("SELECT * FROM billing_customers WHERE dirty_gen > synced_gen LIMIT 3"):
        stage.insist_on_life()
        if time.monotonic() > ends:
            raise NeverQuiet(f"not read: {[dict(row) for row in rows]}")
        await asyncio.sleep(0.1)


def _attempts(event: Event) -> int:
    """Calls of either endpoint that were made, lost ones not counted."""
    return sum(attempt.status is not None for one in event.deliveries for attempt in one.attempts)
