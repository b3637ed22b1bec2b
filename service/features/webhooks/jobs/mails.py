"""The mail about an endpoint that was switched off: to those who can mend it, and nothing when they already have."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select

from service.core.context import Context
from service.features.accounts.models import User
from service.features.organizations.models import Membership, Organization
from service.features.webhooks import actions
from service.features.webhooks.models import GIVE_UP_AFTER, Endpoint, State
from service.guardrails import jobs
from service.guardrails.jobs import Event, job, on
from service.guardrails.mailing import Reach
from service.guardrails.permissions import Role
from service.web.formats import day
from service.web.mail import PATIENT, deliver, letter

letter(
    "webhooks/mail/disabled",
    Reach.MUST,
    organization="Northwind Traders",
    url="hooks.northwind.example/in",
    gone=False,
    days=5,
    since="1 March 2026",
    link="https://app.example/webhook-endpoints/1",
)


@on(actions.disable_endpoint, key="object_id", retry=PATIENT)
async def tell_admins(ctx: Context, event: Event) -> None:
    people = select(Membership.user_id).where(Membership.role.in_((Role.OWNER, Role.ADMIN))).order_by(Membership.id)
    for user_id in (await ctx.db.execute(people)).scalars():
        await jobs.enqueue(ctx, mail_admin, endpoint_id=event.object_id, user_id=user_id)


@job(retry=PATIENT)
async def mail_admin(ctx: Context, endpoint_id: UUID, user_id: UUID) -> None:
    found = select(Endpoint).where(Endpoint.id == endpoint_id, Endpoint.state == State.DISABLED)
    endpoint = (await ctx.db.execute(found)).scalar_one_or_none()
    user = (await ctx.db.execute(select(User).where(User.id == user_id))).scalar_one_or_none()
    name = await ctx.db.scalar(select(Organization.name).where(Organization.id == ctx.organization_id))
    if endpoint is None or user is None or name is None:
        return
    since = endpoint.failing_since
    await deliver(
        ctx,
        user.email,
        "webhooks/mail/disabled",
        f"webhooks.disabled.{endpoint.id}.{since.timestamp() if since else 0:.0f}.{user_id}",
        organization=name,
        url=endpoint.url,
        gone=endpoint.reason == "gone",
        days=GIVE_UP_AFTER.days,
        since=day(since) if since else "",
        link=f"{ctx.settings.base_url.rstrip('/')}/webhook-endpoints/{endpoint.id}",
    )
