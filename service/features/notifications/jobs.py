"""What other features did that people want to hear of."""

from __future__ import annotations

import asyncio
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select

from service.core import telemetry
from service.core.context import Context, Resources
from service.core.database import Database
from service.features.accounts.models import User
from service.features.billing import actions as billing
from service.features.notifications import actions
from service.features.notifications.flows import notify
from service.features.notifications.flows.events import work_off
from service.features.notifications.models import MEMBER_JOINED, PAYMENT, ROLE_CHANGED
from service.features.organizations import actions as organizations
from service.features.organizations.models import Membership
from service.guardrails.jobs import Event, on, pause, standing
from service.guardrails.mailing import MailSuppression, measure
from service.guardrails.permissions import Role
from service.integrations.mail import Mailers
from service.web.mail import PATIENT, deliver

PAUSE_SECONDS = 1.0
MONEY = {
    "payment_failed": "A payment failed. Everything goes on working for now; see what to do.",
    "action_required": "A payment waits for a confirmation at the bank.",
    "ended": "The plan has ended.",
    "trial_ending": "The trial ends soon.",
}


class _Member(NamedTuple):
    user_id: UUID
    role: Role
    name: str


telemetry.measures.append(measure)


@standing("mail-events")
async def read_mail_events(resources: Resources, maintenance: Database, stop: asyncio.Event) -> None:
    while not stop.is_set():
        if not await work_off(resources):
            await pause(stop, PAUSE_SECONDS)


@on(organizations.accept_invitation)
async def tell_of_new_member(ctx: Context, event: Event) -> None:
    joined = await _member(ctx, event)
    if joined is not None:
        text = f"{joined.name} has joined as {joined.role.label}."
        await notify(ctx, MEMBER_JOINED, text, href="/members", role=MEMBER_JOINED.of, key=str(event.object_id))


@on(organizations.change_role)
async def tell_of_new_role(ctx: Context, event: Event) -> None:
    """The role as it is now: two changes in a row are one piece of news each, and both say what holds."""
    member = await _member(ctx, event)
    if member is not None:
        await notify(ctx, ROLE_CHANGED, f"You are {member.role.label} now.", href="/members", user_ids=[member.user_id])


@on(organizations.transfer_ownership)
async def tell_of_ownership(ctx: Context, event: Event) -> None:
    text = "The organization is yours now: you are its owner."
    await notify(ctx, ROLE_CHANGED, text, href="/members", user_ids=[UUID(event.facts["to"])])


@on(billing.notify)
async def tell_of_money(ctx: Context, event: Event) -> None:
    """Beside the mail that billing sends: whoever looks here first learns of it here."""
    text = MONEY.get(event.facts["kind"])
    if event.facts["new"] and text:
        await notify(ctx, PAYMENT, text, href="/billing", role=Role.ADMIN, key=event.facts["effect"])


@on(actions.write_again, retry=PATIENT)
async def prove_that_mail_arrives(ctx: Context, event: Event) -> None:
    """Only after the provider has forgotten the address, or it would hold the proof itself back."""
    for email in await _forgotten(ctx, event):
        link = f"{ctx.settings.base_url.rstrip('/')}/account/notifications"
        await deliver(ctx, email, "notifications/mail/again", f"again.{event.facts['suppressions'][0]}", link=link)


@on(actions.lift_suppression, retry=PATIENT)
async def tell_the_provider(ctx: Context, event: Event) -> None:
    await _forgotten(ctx, event)


async def _forgotten(ctx: Context, event: Event) -> set[str]:
    """The addresses of what was lifted, off the provider's own list."""
    ids = [UUID(one) for one in event.facts["suppressions"]]
    found = await ctx.db.execute(select(MailSuppression.email).where(MailSuppression.id.in_(ids)))
    addresses = set(found.scalars())
    for address in addresses:
        for mailer in ctx.resources.get(Mailers).all():
            await mailer.forget(address)
    return addresses


async def _member(ctx: Context, event: Event) -> _Member | None:
    wanted = (
        select(Membership.user_id, Membership.role, User.name)
        .join(User, User.id == Membership.user_id)
        .where(Membership.id == event.object_id)
    )
    row = (await ctx.db.execute(wanted)).one_or_none()
    return _Member(*row) if row else None
