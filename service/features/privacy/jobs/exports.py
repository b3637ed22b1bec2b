"""Makes copies beside the queue, so that none makes a job wait, and mails whoever asked when theirs is ready."""

from __future__ import annotations

import asyncio
import time

from sqlalchemy import select

from service.core import telemetry
from service.core.context import Context, Resources
from service.core.database import Database
from service.features.accounts.models import User
from service.features.privacy import actions
from service.features.privacy.flows.make import make_next, remove_expired
from service.features.privacy.flows.metrics import measure
from service.features.privacy.models import DataExport, Scope
from service.guardrails.jobs import Event, on, pause, standing
from service.guardrails.mailing import Reach
from service.web.mail import PATIENT, deliver, letter

telemetry.measures.append(measure)
PAUSE_SECONDS, EXPIRE_SECONDS = 1.0, 60.0

letter("privacy/mail/copy-by-letter", Reach.MUST, contact="privacy@app.example")
letter("privacy/mail/export-ready", Reach.ASKED, link="https://app.example/privacy", what="your data")


@standing("exports", give_up=True)
async def make_exports(resources: Resources, maintenance: Database, stop: asyncio.Event) -> None:
    swept_at = 0.0
    while not stop.is_set():
        if time.monotonic() - swept_at >= EXPIRE_SECONDS:
            await remove_expired(resources, maintenance)
            swept_at = time.monotonic()
        if not await make_next(resources, maintenance):
            await pause(stop, PAUSE_SECONDS)


@on(actions.finish_export, retry=PATIENT)
async def tell_who_asked(ctx: Context, event: Event) -> None:
    """The mail has no link that opens anything: the page asks for the login and for a proof."""
    found = (await ctx.db.execute(select(DataExport).where(DataExport.id == event.object_id))).scalar_one_or_none()
    if found is None:
        return
    user = (await ctx.db.execute(select(User).where(User.id == found.user_id))).scalar_one_or_none()
    if user is None:
        return
    personal = found.scope is Scope.PERSON
    await deliver(
        ctx,
        user.email,
        "privacy/mail/export-ready",
        f"privacy.export.{found.id}",
        link=f"{ctx.settings.base_url.rstrip('/')}{'/privacy' if personal else '/organization/export'}",
        what="your data" if personal else "your organization's data",
    )


@on(actions.copy_by_letter, retry=PATIENT)
async def tell_whose_copy_was_made(ctx: Context, event: Event) -> None:
    """They hear of it while a letter is under way, if it was not them who wrote."""
    wanted = select(User.email).where(User.id == event.object_id)
    email = await ctx.db.scalar(wanted, execution_options={"include_deleted": True})
    if email is not None:
        reference, contact = f"privacy.letter.{event.facts['copy']}", ctx.settings.privacy_contact
        await deliver(ctx, email, "privacy/mail/copy-by-letter", reference, contact=contact)
