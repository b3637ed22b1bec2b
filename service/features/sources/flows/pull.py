"""One asking: take the source, commit, ask with nothing open, and write down what came of it.

Whoever dies in between leaves a lease that runs out; the asking is then repeated, and readings that were stored before
are found again and left alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import uniform
from uuid import UUID

from sqlalchemy import or_, select

from service.core import clock, telemetry
from service.core.context import SYSTEM, Caller, Context, Resources
from service.core.crypto import BadSignature
from service.core.errors import Conflict, NotFound, ServiceError
from service.core.logging import get_logger
from service.features.indicators.models import Indicator
from service.features.sources import actions
from service.features.sources.actions._shared import tell
from service.features.sources.flows import metrics
from service.features.sources.models import Outcome, Source, SourceFeed
from service.guardrails import entitlements, switches
from service.guardrails.jobs import Retry
from service.guardrails.jobs.runner import AWAY, where
from service.guardrails.permissions import Role
from service.integrations.sources.base import Ask, Away, Limited, Pulled, SourceFailed, WrongKey
from service.integrations.sources.systems import Systems

log = get_logger()

BACKFILL = timedelta(days=30)
"""How far back a new source goes, and one that was away, where the other side has a history."""
AGAIN = Retry(first=timedelta(seconds=30), longest=timedelta(hours=1))
WHOLE_SECONDS = 20.0
"""One asking in all: the adapters' own deadline is shorter, so this only ends what none of us foresaw."""
LATER = timedelta(minutes=10)
UNREADABLE = "The stored key can no longer be read. Enter it again."


@dataclass(frozen=True, slots=True)
class Taken:
    id: UUID
    organization_id: UUID
    kind: str
    token: UUID
    failures: int
    turn: datetime
    ask: Ask


async def pull(resources: Resources, organization_id: UUID, source_id: UUID) -> str:
    """Ask for one source that is due; how it ended, "" when it is no longer due or somebody else is at it."""
    taken = await _take(resources, organization_id, source_id)
    if taken is None:
        return ""
    began, outcome = time.perf_counter(), "broken"
    try:
        with telemetry.span("sources.pull"):
            outcome = await _ask(resources, taken, began)
    except (Conflict, NotFound):
        outcome = "overtaken"  # paused, changed or deleted meanwhile: what was learnt is of no use any more
    except ServiceError as error:  # a payment is due, changes are paused: nothing to do with the other side
        outcome = error.code
        await _put_off(resources, taken)
    except Exception as error:  # ours, whatever it is: the others go on, and this one must not come back every minute
        log.error("source pull failed", source=str(source_id), error=type(error).__name__, where=where(error))
        await _put_off(resources, taken)
    metrics.pulls.labels(taken.kind, outcome).inc()
    metrics.seconds.labels(taken.kind).observe(time.perf_counter() - began)
    log.info("source pull", source=str(source_id), system=taken.kind, outcome=outcome)
    return outcome


async def _take(resources: Resources, organization_id: UUID, source_id: UUID) -> Taken | None:
    now = clock.now()
    due = select(Source).where(
        Source.id == source_id,
        Source.paused_at.is_(None),
        Source.next_pull_at <= now,
        or_(Source.lease_until.is_(None), Source.lease_until < now),
    )
    async with acting(resources, organization_id) as ctx:
        source = (await ctx.db.execute(due.with_for_update(skip_locked=True))).scalar_one_or_none()
        if source is None:
            return None
        try:
            await switches.refuse_while_read_only(ctx)
            await entitlements.refuse_while_unpaid(ctx)
        except ServiceError:
            source.next_pull_at = now + LATER
            return None
        try:
            key = source.key()
        except BadSignature:
            # Raised, it would come back with every round and keep the places of those behind it.
            log.error("source key unreadable", source=str(source_id))
            source.next_pull_at, source.trouble = source.next_turn(now + LATER), UNREADABLE
            await tell(ctx, source, UNREADABLE)
            return None
        # Of what can take readings: a feed that rests in the archive would have us ask for more every hour.
        feeds = select(SourceFeed.last_at).join(Indicator, Indicator.id == SourceFeed.indicator_id)
        open_ = Indicator.source_id == source.id, Indicator.archived_at.is_(None)
        reached = list(await ctx.db.scalars(feeds.where(SourceFeed.source_id == source.id, *open_)))
        known = [at for at in reached if at is not None]
        first = not known or len(known) < len(reached)
        since = now - BACKFILL if first else max(min(known), now - 12 * BACKFILL)
        ask = Ask(source.config, since.date(), now, key, source.etag, first)
        token, turn = source.take(now), source.next_turn(now)
        return Taken(source.id, organization_id, source.kind, token, source.failures, turn, ask)


async def _ask(resources: Resources, taken: Taken, began: float) -> str:
    try:
        async with asyncio.timeout(WHOLE_SECONDS):
            found: Pulled | SourceFailed = await resources.get(Systems).ask(taken.kind, taken.ask)
    except SourceFailed as failure:
        found = failure
    except TimeoutError:
        found = Away("The other side did not answer in time.")
    except Exception as error:  # an answer that an adapter did not foresee must stay this source's trouble
        log.error("source adapter failed", system=taken.kind, error=type(error).__name__, where=where(error))
        found = Away("The other side answered with something that we do not understand.")
    took = round((time.perf_counter() - began) * 1000)
    async with acting(resources, taken.organization_id) as ctx:
        if isinstance(found, Pulled):
            await actions.store_pull(ctx, taken.id, taken.token, found, took)
            return "ok"
        if isinstance(found, WrongKey):
            await actions.stop_source(ctx, taken.id, taken.token, str(found), took)
            return Outcome.REFUSED
        outcome, again_at = _verdict(taken, found)
        await actions.fail_pull(ctx, taken.id, taken.token, outcome, str(found), again_at, took)
        return outcome


def _verdict(taken: Taken, failure: SourceFailed) -> tuple[Outcome, datetime]:
    """How to call it, and when to ask again: never later than the usual turn unless the other side wishes so."""
    now = clock.now()
    match failure:
        case Limited(until=until):
            # Not all at the very second in which the limit ends.
            return Outcome.LIMITED, until + timedelta(seconds=uniform(0, 30))  # noqa: S311 - spreading, not secrecy
        case Away(retry_after=pause):
            wait = max(AGAIN.delay(taken.failures), timedelta(seconds=pause))
            return Outcome.AWAY, min(now + wait, max(taken.turn, now + timedelta(seconds=pause)))
    return Outcome.REFUSED, taken.turn


async def _put_off(resources: Resources, taken: Taken) -> None:
    try:
        async with acting(resources, taken.organization_id) as ctx:
            source = await ctx.get(Source, taken.id)
            source.give_back(taken.token)
            source.next_pull_at = clock.now() + LATER
    except AWAY:
        return  # the lease runs out by itself


@asynccontextmanager
async def acting(resources: Resources, organization_id: UUID) -> AsyncIterator[Context]:
    """The system in an organization's name, in a transaction of its own: readings go the way that a member's go."""
    async with resources.database.unit_of_work(tenant=organization_id) as work:
        yield Context(work, resources, SYSTEM, Caller("sources"), organization_id=organization_id, role=Role.MEMBER)
