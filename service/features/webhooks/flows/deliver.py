"""The loop that sends: claim, POST with nothing open, write down what came of it.

    one endpoint        at most two attempts at once, one when it is ill or keeps order; after a failure it rests
    all that are ill    failed or took seconds: at most a quarter of the room, the rest is for those that answer at once
    one attempt         a deadline for everything together, the beginning of the answer, no redirect

A worker that dies leaves a lease behind; when that has run out the message is sent again: at least once.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from service.core import clock
from service.core.context import SYSTEM, Caller, Context, Resources
from service.core.crypto import BadSignature
from service.core.database import LOST, Database
from service.core.errors import Unavailable
from service.core.logging import get_logger
from service.core.statements import PreparedText
from service.features.webhooks import actions
from service.features.webhooks.flows import metrics
from service.features.webhooks.flows.claim import Claim, claim
from service.features.webhooks.models import GIVE_UP_AFTER, Progress, State, rest_after, wait_after
from service.guardrails.jobs.runner import where
from service.integrations.http import PeerFailed
from service.integrations.webhooks import AT_ONCE, Reply, WebhookSender

log = get_logger()

FOR_ILL = AT_ONCE // 4
POLL_SECONDS = 0.5
WRITERS = 2
"""Connections that deliveries may take from the worker's jobs."""
PAUSES = (0.5, 2.0, 5.0, 10.0)
"""Seconds between attempts to write down what came of a message; with the attempt itself less than its lease."""
SLOW_MS = 5_000
"""An answer that takes longer is as bad for the others as none: a few dozen such endpoints would have all the room."""
GONE = 410
PLEASE_WAIT = (429, 503)
UNREACHABLE: tuple[type[Exception], ...] = (*LOST, Unavailable)

SETTLE = PreparedText("""
    WITH mine AS (
        UPDATE webhook_deliveries SET state = CAST(:state AS text), next_attempt_at = CAST(:next AS timestamptz),
            finished_at = CAST(:finished AS timestamptz), last_status = CAST(:status AS integer),
            lease_token = NULL, lease_until = NULL
        WHERE organization_id = :context_tenant AND id = :id AND state = 'sending' AND lease_token = :token
        RETURNING id, endpoint_id, attempts
    ), logged AS (
        INSERT INTO webhook_attempts (organization_id, delivery_id, number, at, status, milliseconds, error, response)
        SELECT :context_tenant, id, attempts, CAST(:began AS timestamptz), CAST(:status AS integer),
            CAST(:milliseconds AS integer), CAST(:error AS text), CAST(:response AS text) FROM mine
    ), told AS (
        UPDATE webhook_endpoints SET failures = CASE WHEN :success THEN 0 ELSE failures + 1 END,
            failing_since = CASE WHEN :success THEN NULL ELSE coalesce(failing_since, CAST(:now AS timestamptz)) END,
            resume_at = CAST(:resume AS timestamptz), slow = :slow
        WHERE organization_id = :context_tenant AND id = (SELECT endpoint_id FROM mine)
          AND (failures > 0 OR slow <> :slow OR NOT CAST(:success AS boolean))
        RETURNING state, failing_since
    )
    SELECT (SELECT count(*) FROM mine) AS settled, state, failing_since FROM (SELECT) AS one LEFT JOIN told ON true
""")


@dataclass(frozen=True, slots=True)
class Met:
    """What one attempt met with: an answer, or none and why."""

    began: datetime
    milliseconds: int
    reply: Reply | None
    error: str = ""

    @property
    def succeeded(self) -> bool:
        return self.reply is not None and 200 <= self.reply.status < 300

    @property
    def outcome(self) -> str:
        return "unanswered" if self.reply is None else f"{self.reply.status // 100}xx"


async def run(resources: Resources, maintenance: Database, stop: asyncio.Event) -> None:
    """Send whatever is due until `stop`; then let what runs finish."""
    running: dict[asyncio.Task[None], bool] = {}
    writers = asyncio.Semaphore(WRITERS)
    try:
        while not stop.is_set():
            found = await _claim(maintenance, running)
            for one in found:
                running[asyncio.create_task(deliver(resources, one, writers))] = one.failures > 0 or one.slow
            metrics.in_flight.set(len(running))
            if running:
                await asyncio.wait(running, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                running = {task: ill for task, ill in running.items() if not task.done()}
            else:
                await asyncio.sleep(POLL_SECONDS)
        if running:
            await asyncio.wait(running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def deliver(resources: Resources, held: Claim, writers: asyncio.Semaphore) -> None:
    """One attempt and what follows from it. Never raises: one message's trouble must stay that message's."""
    try:
        met = await _attempt(resources.get(WebhookSender), held)
        metrics.attempts.labels(met.outcome).inc()
        if held.attempts == 1:
            metrics.lag.observe(max(0.0, (clock.now() - held.due_at).total_seconds()))
        await _write_down(resources, held, met, writers)
    except Exception as error:
        log.error("webhook attempt broke", delivery=str(held.id), error=type(error).__name__, where=where(error))


async def _claim(maintenance: Database, running: dict[asyncio.Task[None], bool]) -> list[Claim]:
    room, ill = AT_ONCE - len(running), FOR_ILL - sum(running.values())
    if not room:
        return []
    with suppress(*UNREACHABLE):  # every connection is busy, or the database away: the rest waits a moment
        async with maintenance.unit_of_work() as work:
            return await claim(work.raw, clock.now(), room=room, room_for_ill=max(0, ill))
    return []


async def _attempt(sender: WebhookSender, held: Claim) -> Met:
    began, started = clock.now(), time.perf_counter()

    def spent() -> int:
        return round((time.perf_counter() - started) * 1000)

    try:
        reply = await sender.send(held.url, held.body, held.message_id, held.keys(began))
    except BadSignature:
        return Met(began, spent(), None, "the signing secret cannot be read any more. Rotate the secret")
    except PeerFailed as error:
        return Met(began, spent(), None, str(error)[:200])
    redirected = 300 <= reply.status < 400
    return Met(began, spent(), reply, "a redirect is not followed" if redirected else "")


async def _write_down(resources: Resources, held: Claim, met: Met, writers: asyncio.Semaphore) -> None:
    """Again and again while the lease lasts: jobs had every connection, and what had arrived was sent once more."""
    for pause in (*PAUSES, None):
        try:
            async with writers:
                await _settle(resources, held, met)
            return
        except UNREACHABLE as error:  # after the last pause its lease runs out, and it is sent again
            log.warning("webhook attempt not written down", error=type(error).__name__)
            if pause is not None:
                await asyncio.sleep(pause)


async def _settle(resources: Resources, held: Claim, met: Met) -> None:
    """One transaction: the message, its log, the endpoint's health and, when it is time, its end."""
    now, reply = clock.now(), met.reply
    asked = reply.retry_after if reply is not None and reply.status in PLEASE_WAIT else None
    patience = timedelta(seconds=asked or 0)
    pause = wait_after(held.tries)
    state = Progress.DELIVERED if met.succeeded else Progress.FAILED if pause is None else Progress.WAITING
    async with resources.database.unit_of_work(tenant=held.organization_id) as work:
        row = await work.fetch_one(
            SETTLE,
            id=held.id, token=held.lease_token, state=state, now=now,
            success=met.succeeded, slow=met.milliseconds > SLOW_MS,
            next=now + max(pause or timedelta(), patience), finished=None if state is Progress.WAITING else now,
            resume=None if met.succeeded else now + max(rest_after(held.failures + 1), patience),
            began=met.began, milliseconds=met.milliseconds, status=reply.status if reply else None,
            error=met.error, response=reply.body if reply else "",
        )  # fmt: skip
        assert row is not None  # noqa: S101 - the statement always answers
        log.info(
            "webhook attempt", delivery=str(held.id), outcome=met.outcome, state=state, settled=bool(row["settled"])
        )
        if row["state"] != State.ACTIVE:
            return
        gone = reply is not None and reply.status == GONE
        if gone or (row["failing_since"] is not None and row["failing_since"] <= now - GIVE_UP_AFTER):
            ctx = Context(work, resources, SYSTEM, Caller(f"webhook-{held.id}"), held.organization_id)
            await actions.disable_endpoint(ctx, held.endpoint_id, "gone" if gone else "failing")
