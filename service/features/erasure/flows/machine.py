"""Takes requests that are due through their steps: one claim, one step, one note, so that a crash loses no more than
the step it came into. Whatever is away makes the request wait, visibly, and never lose a step."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from service.core import clock
from service.core.context import SYSTEM, Caller, Context, Resources
from service.core.errors import Conflict, ServiceError
from service.core.logging import get_logger
from service.features.erasure import actions
from service.features.erasure.flows import arrivals
from service.features.erasure.flows.steps import STEPS, Case
from service.features.erasure.models import ErasureRequest, ErasureStep, Source, State
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
    WHERE id = $1
"""
RENEW = "UPDATE erasure_requests SET leased_until = $2, attempts = 0, held = '' WHERE id = $1"
AWAY: dict[type[Exception], str] = {
    StripeFailed: "Stripe is away or refuses; it is asked again.",
    MailFailed: "The mail provider is away or refuses; it is asked again.",
    StorageAway: "The store of files is away; it is asked again.",
    ServiceError: "A part of the service is away; it is asked again.",
}


async def work_off(resources: Resources) -> bool:
    """One request, as far as it comes; whether there was one."""
    now = clock.now()
    async with resources.database.unit_of_work(tenant=None) as work:
        row = await work.raw.fetchrow(CLAIM, now, now + LEASE)
    if row is None:
        return False
    try:
        if row["state"] == State.WAITING:
            await _act(resources, actions.begin, row["id"])
        await _go_on(resources, row["id"])
    except Conflict as obstacle:
        await _wait(resources, row["id"], f"{obstacle.detail} {obstacle.mend}".strip(), HELD_PAUSE)
    except Exception as error:  # whatever it is, the request waits and says so, and is tried again
        reason = next(
            (text for kind, text in AWAY.items() if isinstance(error, kind)), "A mistake of ours; see the log."
        )
        log.error("erasure waits", operation=str(row["id"]), error=type(error).__name__, where=where(error))
        await _wait(resources, row["id"], reason, None)
    return True


async def _go_on(resources: Resources, request_id: UUID) -> None:
    """The steps that are not noted yet; a legal hold that came in between stops before the next one."""
    case, done = await _read(resources, request_id)
    for name, step in STEPS.items():
        if name in done:
            continue
        async with resources.database.unit_of_work(tenant=None) as work:
            ctx = Context(work, resources, SYSTEM, Caller(f"erasure {request_id}"))
            await refuse_while_held(ctx, case.user_id)
            await work.raw.execute(RENEW, request_id, clock.now() + LEASE)
        evidence = await step(resources, case)
        await _note(resources, request_id, name, evidence)
        log.info("erasure step", operation=str(request_id), task=name)
    await _act(resources, actions.finish, request_id)


async def _read(resources: Resources, request_id: UUID) -> tuple[Case, set[str]]:
    async with resources.database.unit_of_work(tenant=None, read_only=True) as work:
        request = (
            await work.session.execute(select(ErasureRequest).where(ErasureRequest.id == request_id))
        ).scalar_one()
        steps = select(ErasureStep.name).where(ErasureStep.request_id == request_id)
        done = set((await work.session.execute(steps)).scalars())
    emails = tuple(request.email.split(" ")) if request.email else ()
    again = request.source == Source.RESTORE
    return Case(request.id, request.user_id, emails, request.began_at or clock.now(), again), done


async def _note(resources: Resources, request_id: UUID, name: str, evidence: dict[str, Any]) -> None:
    line = insert(ErasureStep).values(request_id=request_id, name=name, done_at=clock.now(), evidence=evidence)
    async with resources.database.unit_of_work(tenant=None) as work:
        await work.session.execute(line.on_conflict_do_nothing())


async def _act(resources: Resources, verb: Any, request_id: UUID) -> None:
    async with resources.database.unit_of_work(tenant=None) as work:
        await verb(Context(work, resources, SYSTEM, Caller(f"erasure {request_id}")), request_id)


async def _wait(resources: Resources, request_id: UUID, why: str, pause: timedelta | None) -> None:
    async with resources.database.unit_of_work(tenant=None) as work:
        tried = await work.raw.fetchval("SELECT attempts FROM erasure_requests WHERE id = $1", request_id)
        pause = pause or min(LONGEST_PAUSE, FIRST_PAUSE * float(2 ** min(tried, 20)))
        await work.raw.execute(LATER, request_id, clock.now() + pause, why[:300])


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
