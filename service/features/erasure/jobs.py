"""The machine's loop, what feeds it, and the mails about a request."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

from sqlalchemy import select

from service.core import telemetry
from service.core.context import Context, Resources
from service.core.database import Database
from service.core.logging import get_logger
from service.features.accounts.models import User
from service.features.erasure import actions
from service.features.erasure.flows import arrivals, ledger
from service.features.erasure.flows.machine import work_off
from service.features.erasure.flows.metrics import measure
from service.features.erasure.models import ErasureRequest
from service.guardrails import jobs
from service.guardrails.jobs import Event, job, on, pause, periodic, standing
from service.guardrails.jobs.runner import AWAY, where
from service.guardrails.mailing import Reach
from service.web.formats import day
from service.web.mail import PATIENT, deliver, letter

PAUSE_SECONDS = 2.0
AT_ONCE = 100
"""Entries of the ledger that one job reads or removes."""
log = get_logger()
letter("erasure/mail/waiting", Reach.MUST, day="2 March 2026", link="https://app.example/privacy/erasure")
letter("erasure/mail/entered", Reach.MUST, link="https://app.example/privacy/erasure")
letter("erasure/mail/refused", Reach.MUST, link="https://app.example/privacy/erasure")
letter("erasure/mail/withdrawn", Reach.MUST, link="https://app.example/privacy/erasure")
telemetry.measures.append(measure)


@standing("erasures")
async def erase(resources: Resources, maintenance: Database, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            if await work_off(resources):
                continue
        except AWAY as error:
            log.warning("erasures rest", error=type(error).__name__, where=where(error))
        await pause(stop, PAUSE_SECONDS)


@periodic("*/10 * * * *")
async def take_up_deleted_accounts(ctx: Context) -> None:
    """What a purge is for other tables: an account goes through the same steps as one whose owner asked."""
    await arrivals.take_up_deleted(ctx.resources.database)


@periodic("25 * * * *", timeout=timedelta(minutes=1))
async def follow_the_ledger(ctx: Context) -> None:
    """Whoever a restored backup brought back goes again; and what outlived every backup is forgotten. Only names are
    read here: the entries are, some at a time, in jobs of their own, because a job's transaction keeps the log from
    being sealed for as long as it is open."""
    known = await ledger.known(ctx.resources)
    for job_of, requests in (
        (begin_again, await arrivals.undone(ctx.resources, known)),
        (forget_entries, ledger.old(known)),
    ):
        parts = [requests[at : at + AT_ONCE] for at in range(0, len(requests), AT_ONCE)]
        await jobs.enqueue_each(ctx, job_of, [{"requests": part} for part in parts])


@job(timeout=timedelta(minutes=1), maintenance=True)
async def begin_again(ctx: Context, requests: list[UUID]) -> None:
    """Who could not begin is in the log, and tried again in an hour."""
    await arrivals.replay(ctx.resources, requests)


@job(timeout=timedelta(minutes=1), maintenance=True)
async def forget_entries(ctx: Context, requests: list[UUID]) -> None:
    await ledger.forget(ctx.resources, requests)


@on(actions.ask, retry=PATIENT)
async def tell_when_it_begins(ctx: Context, event: Event) -> None:
    await _tell(ctx, event, "waiting")


@on(actions.verify, retry=PATIENT)
async def tell_that_it_was_checked(ctx: Context, event: Event) -> None:
    await _tell(ctx, event, "waiting")


@on(actions.enter, retry=PATIENT)
async def tell_that_somebody_wrote(ctx: Context, event: Event) -> None:
    """Whoever wrote in their name hears nothing; they do."""
    await _tell(ctx, event, "entered")


@on(actions.refuse, retry=PATIENT)
async def tell_that_it_was_refused(ctx: Context, event: Event) -> None:
    await _tell(ctx, event, "refused")


@on(actions.withdraw, retry=PATIENT)
async def tell_that_it_was_taken_back(ctx: Context, event: Event) -> None:
    """Whoever sits at an open session can do that; the person who asked has to hear of it."""
    await _tell(ctx, event, "withdrawn")


async def _tell(ctx: Context, event: Event, template: str) -> None:
    request = await ctx.db.scalar(select(ErasureRequest).where(ErasureRequest.id == event.object_id))
    if request is None:
        return
    wanted = select(User.email).where(User.id == request.user_id)
    email = await ctx.db.scalar(wanted, execution_options={"include_deleted": True})
    if email is None:
        return
    values = {"link": f"{ctx.settings.base_url.rstrip('/')}/privacy/erasure"}
    if template == "waiting":
        values["day"] = day(request.due_at) if request.due_at else ""
    await deliver(ctx, email, f"erasure/mail/{template}", f"erasure.{template}.{request.id}", **values)
