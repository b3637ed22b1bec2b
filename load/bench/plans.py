"""Billing with its processes: how soon a plan is seen, how often Stripe is asked, and what its silence costs.

The world of `make headline`: one web process and two workers with PostgreSQL, Redis and the stand-in for Stripe.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import median
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg

from infra.sandbox.stripe import endpoints
from infra.sandbox.stripe.knobs import StripeKnobs
from load.bench.deliveries import Deliveries
from load.bench.generator import Measured, drive
from load.headline.people import Person, make_people
from load.headline.storms import quiet
from load.headline.world import World
from service.features.billing.models.plans import BUSINESS

LOOK_SECONDS = 0.01
CHANGES_PER_SECOND = 5
ACKNOWLEDGED_PER_SECOND = 50
HANGING = StripeKnobs(api_latency_min=10, api_latency_max=10)
SEEN = "SELECT organization_id FROM entitlements WHERE plan = $1 AND organization_id = ANY($2)"


@dataclass(frozen=True)
class Burst:
    """One upgrade while the cycle closes; `readings` of the customer, `calls` of Stripe's API in all."""

    events: int
    readings: int
    calls: int


@dataclass
class Plans:
    """Seconds in `alone` and `busy`: from the change at Stripe to the row that says what the organization may use."""

    alone: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    bursts: list[Burst] = field(default_factory=list)
    healthy: list[Measured] = field(default_factory=list)
    hanging: list[Measured] = field(default_factory=list)

    def typical(self) -> Burst:
        """Of each figure the median."""
        return Burst(*(int(median(getattr(one, name) for one in self.bursts)) for name in Burst.__dataclass_fields__))


async def measure(stage: World, many: int, seconds: float, rounds: int) -> Plans:
    """`many` changes alone, three times as many in a row, and as many bursts. Raises NeverQuiet."""
    database = await asyncpg.connect(stage.superuser_url)
    people = await make_people(stage, database, 5 * many + 1)
    await quiet(stage, database)
    endpoints.update(stage.stripe.account, {"enabled_events": ["*"]}, stage.endpoint)
    found = Plans()
    print("upgrades while the cycle closes ...", flush=True)
    # First, and in this order: time at Stripe passes for everybody. The first one's cycle takes most of a month along.
    await _burst(stage, database, people[0])
    found.bursts = [await _burst(stage, database, person) for person in people[1 : many + 1]]
    print("from a change at Stripe to the plan that is seen ...", flush=True)
    for person in people[many + 1 : 2 * many + 1]:
        found.alone += await _until_seen(database, [person], 1)
        await quiet(stage, database)
    found.busy = await _until_seen(database, people[2 * many + 1 :], CHANGES_PER_SECOND)
    await quiet(stage, database)
    web = urlsplit(stage.stripe.account.endpoints[stage.endpoint].url).netloc
    deliveries = Deliveries([person.customer for person in people], web)
    for number in range(rounds):
        for knobs, runs, series in ((StripeKnobs(), found.healthy, "well"), (HANGING, found.hanging, "hang")):
            print(f"acknowledging, {series} ...", flush=True)
            stage.stripe.knobs = knobs
            runs.append(await _acknowledge(web, deliveries.fresh(f"{series}{number}"), seconds))
        stage.stripe.knobs = StripeKnobs()
        await quiet(stage, database)
    await database.close()
    return found


async def _until_seen(database: asyncpg.Connection, people: Iterable[Person], rate: float) -> list[float]:
    """Upgrade one after the other, `rate` a second, and look every 10 ms who has what was bought."""
    waiting: dict[UUID, float] = {}
    took: list[float] = []

    async def change() -> None:
        began = time.monotonic()
        for number, person in enumerate(people):
            await asyncio.sleep(began + number / rate - time.monotonic())
            person.upgrade()
            waiting[person.organization] = time.monotonic()

    changing = asyncio.create_task(change())
    while waiting or not changing.done():
        await asyncio.sleep(LOOK_SECONDS)
        rows = await database.fetch(SEEN, BUSINESS.key, list(waiting))
        took += [time.monotonic() - waiting.pop(row["organization_id"]) for row in rows]
    await changing
    return took


async def _burst(stage: World, database: asyncpg.Connection, person: Person) -> Burst:
    account = stage.stripe.account
    stage.stripe.asked.clear()
    before = len(list(account.events.newest_first()))
    await person.live_through_it(stage.random, _nothing)
    await quiet(stage, database)
    events = len(list(account.events.newest_first())) - before
    return Burst(events, stage.stripe.asked["fetches"], stage.stripe.asked["calls"])


async def _nothing() -> None:
    """The headline run notes what changed; here only the end counts."""


async def _acknowledge(web: str, wires: Iterator[bytes], seconds: float) -> Measured:
    """A second before the clock runs, for whoever reads Stripe to begin to."""
    host, port = web.split(":")
    for length in (1.0, seconds):
        found = await drive(host, int(port), wires, connections=16, seconds=length, rate=ACKNOWLEDGED_PER_SECOND)
    return found
