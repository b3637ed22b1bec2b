"""Writes: reading news, and choosing which to get."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert

from service.core import clock
from service.core.context import Context
from service.core.errors import NotFound
from service.features.notifications.models import KINDS, Channel, Notification, NotificationChoice
from service.guardrails.actions import action
from service.guardrails.permissions import Role, Who


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


async def _choose(ctx: Context, user_id: UUID, kind: str, channel: Channel) -> None:
    chosen = {"channel": channel, "changed_at": clock.now()}
    wish = insert(NotificationChoice).values(user_id=user_id, kind=kind, **chosen)
    await ctx.db.execute(wish.on_conflict_do_update(index_elements=["user_id", "kind"], set_=chosen))
    ctx.facts |= {"kind": kind, "channel": channel.value}
