"""Writes: reading news, and choosing which to get."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert

from service.core import clock
from service.core.context import Context
from service.core.errors import Conflict, NotFound
from service.features.accounts.models import User
from service.features.notifications.models import KINDS, Channel, Notification, NotificationChoice
from service.features.notifications.queries import DEAD
from service.features.notifications.schemas import SOURCE, read_unsubscription
from service.guardrails import mailing
from service.guardrails.actions import action
from service.guardrails.inbox import InboxMessage, State
from service.guardrails.mailing import Cause, MailSuppression
from service.guardrails.permissions import Role, Who
from service.guardrails.purposes import PURPOSES, said
from service.guardrails.rate_limits import MAIL, spend
from service.web.dead_letters import AT_ONCE


@action("notifications.read", requires=Role.VIEWER, while_unpaid=True)
async def read_notification(ctx: Context, notification_id: UUID) -> Notification:
    """Mark one as read; reading twice keeps the first time."""
    wanted = select(Notification).where(Notification.id == notification_id, Notification.user_id == ctx.user_id)
    found = (await ctx.db.execute(wanted.with_for_update())).scalar_one_or_none()
    if found is None:
        raise NotFound("There is no such notification.", mend="It may be older than 90 days.")
    found.read_at = found.read_at or clock.now()
    return found


@action("notifications.read_all", requires=Role.VIEWER, while_unpaid=True)
async def read_all_notifications(ctx: Context) -> None:
    """All of the organization that the person is in."""
    mine = update(Notification).where(Notification.user_id == ctx.user_id, Notification.read_at.is_(None))
    await ctx.db.execute(mine.values(read_at=clock.now()), execution_options={"synchronize_session": False})


@action("notifications.choose", requires=Who.SIGNED_IN)
async def choose_channel(ctx: Context, kind: str, channel: Channel) -> None:
    """How the person wants to hear of one kind of news from now on."""
    if kind not in KINDS:
        raise NotFound("There is no such kind of news.", mend="Reload the page to see those there are.")
    await _choose(ctx, ctx.user_id, kind, channel)


@action("notifications.unsubscribe", requires=Who.ANYONE, while_read_only=True)
async def unsubscribe(ctx: Context, token: str) -> None:
    """What the link in a mail says: no more mail of one kind for one person, or no more news at all to an address.

    The link is the proof, so it needs no login; pressing twice changes nothing. Raises BadRequest for any other link.
    """
    wish = read_unsubscription(token)
    if wish.user_id is not None:
        ctx.facts |= {"account": str(wish.user_id)}
        known = select(User.id).where(User.id == wish.user_id)
        if (await ctx.db.execute(known)).scalar_one_or_none() is None:
            return
        if aim := PURPOSES.get(wish.kind):
            ctx.add(said(wish.user_id, aim, given=False, source="mail"))
            ctx.facts |= {"purpose": aim.name}
        else:
            await _choose(ctx, wish.user_id, wish.kind, Channel.APP)
    else:
        await mailing.suppress(ctx.work.raw, wish.address, Cause.UNSUBSCRIBED, "", clock.now())


@action("notifications.write_again", requires=Who.SIGNED_IN)
async def write_again(ctx: Context) -> None:
    """The owner of an address says that mail shall go there again; a job takes it off the provider's list, too."""
    user = await ctx.get(User, ctx.user_id)
    await spend(ctx.resources, MAIL, subject=user.email)
    mine = (MailSuppression.address_hash == mailing.hash_of(user.email), MailSuppression.lifted_at.is_(None))
    found = (await ctx.db.execute(select(MailSuppression).where(*mine).with_for_update())).scalars().all()
    if not found:
        raise Conflict("Nothing holds our mail back.", mend="Look into the folder for spam, or change the address.")
    _lift(ctx, found)


@action("notifications.lift_suppression", requires=Who.STAFF, step_up=True)
async def lift_suppression(ctx: Context, suppression_id: UUID, reason: str) -> MailSuppression:
    """Staff lets mail go to an address again, for a reason that stands in the log."""
    await ctx.work.act_for(tenant=None, user=ctx.user_id)
    found = await ctx.get(MailSuppression, suppression_id)
    if found.lifted_at is not None:
        raise Conflict("This one is lifted already.", mend="Reload the page.")
    ctx.facts |= {"reason": reason}
    _lift(ctx, [found])
    return found


@action("notifications.replay_events", requires=Who.STAFF, step_up=True)
async def replay_events(ctx: Context, q: str, reason: str) -> int:
    """Try again to understand what the provider told us; the oldest thousand of those that are sought."""
    return await _settle(ctx, q, reason, state=State.PENDING, attempts=0, last_error=None, next_attempt_at=clock.now())


@action("notifications.discard_events", requires=Who.STAFF, step_up=True)
async def discard_events(ctx: Context, q: str, reason: str) -> int:
    """Leave them alone from now on."""
    return await _settle(ctx, q, reason, state=State.IGNORED, reason="discarded", processed_at=clock.now())


async def _settle(ctx: Context, q: str, why: str, **values: Any) -> int:
    await ctx.work.act_for(tenant=None, user=ctx.user_id)
    dead = (InboxMessage.source == SOURCE, InboxMessage.state == State.DEAD, *DEAD.terms(q))
    some = select(InboxMessage.id).where(*dead).order_by(InboxMessage.id).limit(AT_ONCE).with_for_update()
    found = (await ctx.db.execute(some)).scalars().all()
    if not found:
        raise Conflict("None of these waits any more.", mend="Reload the page; somebody may have been faster.")
    await ctx.db.execute(update(InboxMessage).where(InboxMessage.id.in_(found)).values(**values))
    ctx.facts |= {"events": len(found), "sought": q, "reason": why}
    return len(found)


def _lift(ctx: Context, suppressions: Sequence[MailSuppression]) -> None:
    for one in suppressions:
        one.lifted_at = clock.now()
    ctx.facts |= {"suppressions": [str(one.id) for one in suppressions]}


async def _choose(ctx: Context, user_id: UUID, kind: str, channel: Channel) -> None:
    chosen = {"channel": channel, "changed_at": clock.now()}
    wish = insert(NotificationChoice).values(user_id=user_id, kind=kind, **chosen)
    await ctx.db.execute(wish.on_conflict_do_update(index_elements=["user_id", "kind"], set_=chosen))
    ctx.facts |= {"kind": kind, "channel": channel.value}
