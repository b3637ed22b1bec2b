"""Reads: the asking person's own news and wishes. Nothing here answers about anybody else."""

from __future__ import annotations

from sqlalchemy import bindparam, func, literal_column, select

from service.core.context import Context
from service.core.statements import Prepared, context_user
from service.features.notifications.models import KINDS, Notification, NotificationChoice
from service.features.notifications.schemas import SOURCE, Choice, NotificationRead, SuppressionRead, SuppressionsWanted
from service.guardrails.actions import query
from service.guardrails.inbox import InboxMessage, State
from service.guardrails.mailing import MailSuppression, hash_of
from service.guardrails.pagination import Keyset, Page, PageRequest, Position, paginate
from service.guardrails.permissions import Role, Who
from service.web.dead_letters import Letter, Sought, inbox

MOST_COUNTED = 100
MINE = Notification.user_id == context_user()
LIST = Keyset(
    select(
        Notification.id,
        Notification.kind,
        Notification.text,
        Notification.href,
        Notification.created_at,
        Notification.read_at,
    ).where(MINE),
    order=(Notification.created_at.desc(), Notification.id.desc()),
)
# Bounded, because it stands on every page: nobody needs to know whether it is 100 or 4,000.
UNREAD = Prepared(
    select(func.count().label("unread")).select_from(
        select(Notification.id)
        .where(MINE, Notification.read_at.is_(None))
        .limit(literal_column(str(MOST_COUNTED)))
        .subquery()
    )
)
_held_back = select(
    MailSuppression.id, MailSuppression.email, MailSuppression.cause, MailSuppression.code, MailSuppression.seen_at
).where(MailSuppression.lifted_at.is_(None))
SUPPRESSED = Keyset(_held_back, order=(MailSuppression.id.desc(),))
OF_ADDRESS = Keyset(
    _held_back.where(MailSuppression.address_hash == bindparam("address_hash")), order=(MailSuppression.id.desc(),)
)
DEAD = inbox(InboxMessage.source == SOURCE, InboxMessage.state == State.DEAD)
CHOICES = Prepared(
    select(NotificationChoice.kind, NotificationChoice.channel).where(NotificationChoice.user_id == context_user())
)


@query("notifications.list", requires=Role.VIEWER)
async def list_notifications(ctx: Context, page: PageRequest) -> Page[NotificationRead]:
    """Newest first."""
    return await paginate(ctx, LIST, page, NotificationRead)


@query("notifications.count", requires=Role.VIEWER)
async def count_unread(ctx: Context) -> int:
    """At most MOST_COUNTED."""
    row = await ctx.fetch_one(UNREAD)
    return int(row["unread"]) if row else 0


@query("notifications.list_suppressions", requires=Who.STAFF)
async def list_suppressions(ctx: Context, wanted: SuppressionsWanted, page: PageRequest) -> Page[SuppressionRead]:
    """Addresses that mail does not go to, newest first; or those of one address."""
    if wanted.q:
        return await paginate(ctx, OF_ADDRESS, page, SuppressionRead, address_hash=hash_of(wanted.q))
    return await paginate(ctx, SUPPRESSED, page, SuppressionRead)


@query("notifications.list_dead_events", requires=Who.STAFF)
async def list_dead_events(ctx: Context, wanted: Sought, page: Position) -> Page[Letter]:
    """What the provider told us and nobody understood, newest first."""
    return await DEAD.page(ctx, wanted, page)


@query("notifications.count_dead_events", requires=Who.STAFF)
async def count_dead_events(ctx: Context) -> int:
    return await DEAD.count(ctx)


@query("notifications.list_choices", requires=Who.SIGNED_IN)
async def list_choices(ctx: Context) -> list[Choice]:
    """Every kind of news there is, with what the asking person gets of it."""
    chosen = {row["kind"]: row["channel"] for row in await ctx.fetch(CHOICES)}
    return [
        Choice(kind, type(kind.usual)(chosen.get(kind.name, kind.usual)))
        for kind in sorted(KINDS.values(), key=lambda kind: kind.title)
    ]
