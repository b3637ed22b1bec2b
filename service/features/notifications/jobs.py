"""What other features did that people want to hear of."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select

from service.core.context import Context
from service.features.accounts.models import User
from service.features.billing import actions as billing
from service.features.notifications.flows import notify
from service.features.notifications.models import MEMBER_JOINED, PAYMENT, ROLE_CHANGED
from service.features.organizations import actions as organizations
from service.features.organizations.models import Membership
from service.guardrails.jobs import Event, on
from service.guardrails.permissions import Role

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


async def _member(ctx: Context, event: Event) -> _Member | None:
    wanted = (
        select(Membership.user_id, Membership.role, User.name)
        .join(User, User.id == Membership.user_id)
        .where(Membership.id == event.object_id)
    )
    row = (await ctx.db.execute(wanted)).one_or_none()
    return _Member(*row) if row else None
