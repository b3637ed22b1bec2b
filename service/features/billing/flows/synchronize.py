"""The synchronizer: claim a customer, read Stripe with nothing open, write under the version that was read.

    webhook, our own call, sweep, person  ->  dirty_gen + 1
    here:  lease  ->  read Stripe  ->  UPDATE ... WHERE sync_version = what we saw  ->  everything else, one commit

PostgreSQL is the queue: nothing is lost with Redis, with this process, or with a notification nobody heard.
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from uuid import UUID

from service.core import clock, telemetry
from service.core.context import Resources
from service.core.database import LOST, UnitOfWork
from service.core.errors import Unavailable
from service.core.logging import get_logger
from service.features.billing.flows import metrics
from service.features.billing.flows.apply import StaleReading, apply_snapshot
from service.features.billing.flows.claim import LEASE_SECONDS, Claim, claim, give_back
from service.features.billing.flows.snapshot import fetch_snapshot
from service.features.billing.models.customer import DIRTY
from service.integrations.stripe.client import StripeApi
from service.integrations.stripe.errors import StripeAway, StripeFailed, StripeMisconfigured
from service.integrations.stripe.pace import Urgency

log = get_logger()

AT_ONCE = 6
UNREACHABLE: tuple[type[Exception], ...] = (*LOST, Unavailable)
POLL_SECONDS = 0.2
MISCONFIGURED_PAUSE = timedelta(seconds=60)
TOO_LONG_PAUSE = timedelta(minutes=2)
MARK = f"UPDATE billing_customers SET {DIRTY}, dirty_since = coalesce(dirty_since, now()) WHERE id = $1 RETURNING dirty_gen"  # noqa: S608, E501
REACHED = "SELECT synced_gen >= $2 FROM billing_customers WHERE id = $1"


async def run(resources: Resources, stop: asyncio.Event) -> None:
    """Synchronize whatever is dirty until `stop`; a few customers at a time, each on its own."""
    running: set[asyncio.Task[bool]] = set()
    try:
        while not stop.is_set():
            room = AT_ONCE - len(running)
            found = await _claim_patiently(resources, room) if room else []
            running |= {asyncio.create_task(synchronize(resources, one)) for one in found}
            if running and not found:
                _, running = await asyncio.wait(running, timeout=POLL_SECONDS)
            elif not found:
                await asyncio.sleep(POLL_SECONDS)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def synchronize(resources: Resources, held: Claim, urgency: Urgency = Urgency.WEBHOOK) -> bool:
    """Bring one claimed customer up to date; False when somebody else was faster or it has to be tried again."""
    began = time.perf_counter()
    outcome = "failed"
    with telemetry.span("billing.synchronize"):
        try:
            async with asyncio.timeout(LEASE_SECONDS - 5):
                api = resources.get(StripeApi)
                snapshot = await fetch_snapshot(api, held.stripe_customer_id, held.touched, urgency)
                async with resources.database.unit_of_work(tenant=held.organization_id) as work:
                    applied = await apply_snapshot(resources, work, held, snapshot)
            outcome = "applied" if applied else "overtaken"
            if applied and held.dirty_since is not None:
                metrics.lag.observe(max(0.0, (clock.now() - held.dirty_since).total_seconds()))
            metrics.misconfigured.set(0)
        except asyncio.CancelledError:
            await asyncio.shield(_give_back(resources, held, "stopped", timedelta()))
            raise
        except Exception as error:  # one customer's trouble, whatever it is, must stay that customer's
            await _fail(resources, held, error)
    metrics.syncs.labels(outcome).inc()
    log.info("billing sync", customer=str(held.id), outcome=outcome, ms=round((time.perf_counter() - began) * 1000))
    return outcome == "applied"


async def mark(work: UnitOfWork, customer_id: UUID) -> int:
    """Something other than a message may have changed this customer: read it again. The generation to wait for."""
    return int(await work.raw.fetchval(MARK, customer_id))


async def synchronize_now(resources: Resources, customer_id: UUID, *, within: float = 5.0) -> bool:
    """Read a customer again while a person waits; False when that takes longer than `within` seconds.

    Whoever already holds the lease does the reading, but one that began before now may have missed what was just
    done: so this waits for the generation that it marked itself.
    """
    async with resources.database.unit_of_work() as work:
        generation, pause = await mark(work, customer_id), POLL_SECONDS
    try:
        async with asyncio.timeout(within):
            while True:
                for held in await _claim(resources, 1, only=customer_id):
                    await synchronize(resources, held, Urgency.PERSON)
                async with resources.database.connection() as connection:
                    if await UnitOfWork(connection).raw.fetchval(REACHED, customer_id, generation):
                        return True
                await asyncio.sleep(pause)
                pause *= 1.5
    except TimeoutError:
        return False


async def _claim_patiently(resources: Resources, most: int) -> list[Claim]:
    try:
        return await _claim(resources, most)
    except Unavailable:  # every connection is busy with jobs: what runs here goes on, the rest waits a moment
        return []


async def _claim(resources: Resources, most: int, *, only: UUID | None = None) -> list[Claim]:
    livemode = resources.settings.stripe_livemode
    async with resources.database.connection() as connection:
        return await claim(UnitOfWork(connection).raw, most, livemode=livemode, only=only)


async def _fail(resources: Resources, held: Claim, error: Exception) -> None:
    """Back into the queue: with patience when Stripe is away, with fewer and fewer tries when it is the customer."""
    wait: timedelta | None = None
    match error:
        case StripeMisconfigured():
            metrics.misconfigured.set(1)
            wait = MISCONFIGURED_PAUSE
        case StripeAway(retry_after=seconds):
            wait = timedelta(seconds=max(1, seconds))
        case TimeoutError():  # too much to read, or too slowly: it must not keep one of six places busy all the time
            wait = TOO_LONG_PAUSE
        case Unavailable():
            wait = timedelta(seconds=2)
        case StaleReading():
            metrics.alarms.labels("stale reading").inc()
    dead = await _give_back(resources, held, describe(error), wait)
    level = log.error if dead else log.warning
    level("billing sync failed", customer=str(held.id), error=describe(error), attempt=held.failures + 1, dead=dead)


async def _give_back(resources: Resources, held: Claim, error: str, wait: timedelta | None) -> bool:
    try:
        async with resources.database.connection() as connection:
            return await give_back(UnitOfWork(connection).raw, held, error, wait=wait)
    except UNREACHABLE:
        return False  # the lease runs out by itself


def describe(error: Exception) -> str:
    """For the log and the staff panel: never a text that may quote a customer."""
    return str(error) if isinstance(error, (StripeFailed, StaleReading)) else type(error).__name__
