"""Takes requests that are due through their steps: one claim, one step, one note, so that a crash loses no more than
the step it came into. Whatever is away makes the request wait, visibly, and never lose a step."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from service.core import clock
from service.core.context import SYSTEM, Caller, Context, Resources
from service.core.database import UnitOfWork
from service.core.errors import Conflict, ServiceError
from service.core.logging import get_logger
from service.features.erasure import actions
from service.features.erasure.flows import arrivals
from service.features.erasure.flows.steps import STEPS, Case
from service.features.erasure.models import ErasureRequest, ErasureStep, Source, State
from service.guardrails.former_addresses import given_up
from service.guardrails.jobs.runner import where
from service.guardrails.purge import refuse_while_held
from service.integrations.mail import MailFailed
from service.integrations.storage import StorageAway
from service.integrations.stripe.errors import StripeFailed

log = get_logger()
LEASE = timedelta(minutes=3)
"""Longer than any step takes: each renews it."""
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=10), timedelta(hours=1)
HELD_PAUSE = timedelta(hours=1)
CLAIM = """
    UPDATE erasure_requests SET leased_until = $2 WHERE id = (
        SELECT id FROM erasure_requests
        WHERE finished_at IS NULL AND next_attempt_at <= $1 AND state IN ('waiting', 'executing')
            AND coalesce(due_at <= $1, true) AND coalesce(leased_until <= $1, true)
        ORDER BY next_attempt_at LIMIT 1 FOR UPDATE SKIP LOCKED
    ) RETURNING id, state
"""
LATER = """
    UPDATE erasure_requests SET leased_until = NULL, next_attempt_at = $2, held = $3, attempts = attempts + 1
    WHERE id = $1 AND leased_until = $4
"""
RENEW = """
    UPDATE erasure_requests SET leased_until = $2, attempts = 0, held = '' WHERE id = $1 AND leased_until = $3
"""
OURS = "SELECT true FROM erasure_requests WHERE id = $1 AND leased_until = $2 FOR UPDATE"
AWAY: dict[type[Exception], str] = {
    StripeFailed: "Stripe is away or refuses; it is asked again.",
    MailFailed: "The mail provider is away or refuses; it is asked again.",
    StorageAway: "The store of files is away; it is asked again.",
    ServiceError: "A part of the service is away; it is asked again.",
}


class Lost(Exception):
    """Our lease ran out in the middle of a step, and another worker goes on: what we would say now is stale."""


@dataclass(slots=True)
class Held:
    """A request that is ours until then; the moment is also the token by which we know that it still is."""

    id: UUID
    until: datetime


async def work_off(resources: Resources) -> bool:
    """One request, as far as it comes; whether there was one."""
    now = clock.now()
    async with resources.database.unit_of_work(tenant=None) as work:
        row = await work.raw.fetchrow(CLAIM, now, now + LEASE)
    if row is None:
        return False
    held = Held(row["id"], now + LEASE)
    try:
        if row["state"] == State.WAITING:
            await _act(resources, actions.begin, held)
        await _go_on(resources, held)
    except Lost:
        log.info("erasure taken over", operation=str(held.id))
    except Conflict as obstacle:
        await _wait(resources, held, f"{obstacle.detail} {obstacle.mend}".strip(), HELD_PAUSE)
    except Exception as error:  # whatever it is, the request waits and says so, and is tried again
        reason = next(
            (text for kind, text in AWAY.items() if isinstance(error, kind)), "A mistake of ours; see the log."
        )
        log.error("erasure waits", operation=str(held.id), error=type(error).__name__, where=where(error))
        await _wait(resources, held, reason, None)
    return True


async def _go_on(resources: Resources, held: Held) -> None:
    """The steps that are not noted yet; a legal hold that came in between stops before the next one."""
    case, done = await _read(resources, held.id)
    for name, step in STEPS.items():
        if name in done:
            continue
        async with resources.database.unit_of_work(tenant=None) as work:
            await refuse_while_held(work, case.user_id)
            until = clock.now() + LEASE
            if await work.raw.execute(RENEW, held.id, until, held.until) != "UPDATE 1":
                raise Lost
        held.until = until
        evidence = await step(resources, case)
        await _note(resources, held, name, evidence)
        log.info("erasure step", operation=str(held.id), task=name)
    await _act(resources, actions.finish, held)


async def _read(resources: Resources, request_id: UUID) -> tuple[Case, set[str]]:
    async with resources.database.unit_of_work(tenant=None, read_only=True) as work:
        request = (
            await work.session.execute(select(ErasureRequest).where(ErasureRequest.id == request_id))
        ).scalar_one()
        steps = select(ErasureStep.name).where(ErasureStep.request_id == request_id)
        done = set((await work.session.execute(steps)).scalars())
        former = (await given_up(work, [request.user_id])).get(request.user_id, {})
    emails = tuple(dict.fromkeys([*(request.email or "").split(), *former]))
    again = request.source == Source.RESTORE
    return Case(request.id, request.user_id, emails, request.began_at or clock.now(), again), done


async def _note(resources: Resources, held: Held, name: str, evidence: dict[str, Any]) -> None:
    line = insert(ErasureStep).values(request_id=held.id, name=name, done_at=clock.now(), evidence=evidence)
    async with resources.database.unit_of_work(tenant=None) as work:
        await _insist(work, held)
        await work.session.execute(line.on_conflict_do_nothing())


async def _act(resources: Resources, verb: Any, held: Held) -> None:
    async with resources.database.unit_of_work(tenant=None) as work:
        await _insist(work, held)
        await verb(Context(work, resources, SYSTEM, Caller(f"erasure {held.id}")), held.id)


async def _insist(work: UnitOfWork, held: Held) -> None:
    """Raises Lost; until the transaction ends nobody takes the request over."""
    if not await work.raw.fetchval(OURS, held.id, held.until):
        raise Lost


async def _wait(resources: Resources, held: Held, why: str, pause: timedelta | None) -> None:
    async with resources.database.unit_of_work(tenant=None) as work:
        tried = await work.raw.fetchval("SELECT attempts FROM erasure_requests WHERE id = $1", held.id)
        pause = pause or min(LONGEST_PAUSE, FIRST_PAUSE * float(2 ** min(tried, 20)))
        await work.raw.execute(LATER, held.id, clock.now() + pause, why[:300], held.until)


async def replay_all(resources: Resources) -> tuple[int, int]:
    """Whom a restored backup brought back goes at once: how many began again, and how many are not done yet."""
    total = 0
    while True:  # of two erasures of one person, the second begins when the first is done
        begun, waiting = await arrivals.replay(resources)
        total += begun
        while await work_off(resources):
            pass
        if not begun:
            break
    async with resources.database.unit_of_work(tenant=None, read_only=True) as work:
        left = await work.raw.fetchval(
            "SELECT count(*) FROM erasure_requests WHERE finished_at IS NULL AND source = 'restore'"
        )
    return total, left + waiting
