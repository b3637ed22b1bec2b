"""The pulling itself, for as long as the worker lives, and the mail when a source stops for want of a key."""

from __future__ import annotations

import asyncio
from uuid import UUID

from sqlalchemy import select

from service.core import telemetry
from service.core.context import Context, Resources
from service.core.database import Database
from service.features.accounts.models import User
from service.features.notifications.flows import notify
from service.features.notifications.models import Kind as News
from service.features.organizations.models import Membership
from service.features.sources import actions
from service.features.sources.flows import schedule
from service.features.sources.models import Kind, Source
from service.guardrails import jobs
from service.guardrails.jobs import Event, job, on, standing
from service.guardrails.mailing import Reach
from service.guardrails.permissions import Role
from service.web.mail import PATIENT, deliver, letter

STOPPED = News("source_stopped", "A source stops for want of a key", of=Role.ADMIN)

letter(
    "sources/mail/stopped",
    Reach.MUST,
    kind="GitHub",
    target="northwind/website",
    trouble="The key is not accepted any more.",
    link="https://app.example/sources/1",
)
telemetry.measures.append(schedule.measure)


@standing("sources")
async def ask_sources(resources: Resources, maintenance: Database, stop: asyncio.Event) -> None:
    await schedule.run(resources, maintenance, stop)


@on(actions.stop_source, retry=PATIENT)
async def tell_admins(ctx: Context, event: Event) -> None:
    source = (await ctx.db.execute(select(Source).where(Source.id == event.object_id))).scalar_one_or_none()
    if source is None or source.paused_at is None:
        return
    text, key = f"{source.target} needs a new key.", f"{source.id} {source.paused_at.timestamp():.0f}"
    await notify(ctx, STOPPED, text, href=f"/sources/{source.id}", role=STOPPED.of, key=key)
    people = await ctx.db.scalars(
        select(Membership.user_id).where(Membership.role.in_((Role.OWNER, Role.ADMIN))).order_by(Membership.id)
    )
    for user_id in people:
        await jobs.enqueue(ctx, mail_stopped, source_id=event.object_id, user_id=user_id)


@job(retry=PATIENT)
async def mail_stopped(ctx: Context, source_id: UUID, user_id: UUID) -> None:
    """To one person, if it still stands still."""
    source = (await ctx.db.execute(select(Source).where(Source.id == source_id))).scalar_one_or_none()
    user = (await ctx.db.execute(select(User).where(User.id == user_id))).scalar_one_or_none()
    if source is None or user is None or source.paused_at is None or not source.trouble:
        return
    await deliver(
        ctx,
        user.email,
        "sources/mail/stopped",
        f"sources.stopped.{source.id}.{source.paused_at.timestamp():.0f}.{user.id}",
        kind=Kind(source.kind).label,
        target=source.target,
        trouble=source.trouble,
        link=f"{ctx.settings.base_url.rstrip('/')}/sources/{source.id}",
    )
