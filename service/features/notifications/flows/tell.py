"""Telling people something in the product, and by mail those who want that."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import and_, select

from service.core import clock
from service.core.context import Context
from service.core.ids import new_id
from service.core.statements import PreparedText
from service.features.accounts.models import User
from service.features.notifications.models import KINDS, Channel, Kind, Notification, NotificationChoice
from service.features.organizations.models import Organization
from service.guardrails import jobs
from service.guardrails.jobs import job
from service.guardrails.mailing import Reach
from service.guardrails.permissions import Role
from service.web.mail import PATIENT, deliver, letter, unsubscribe_link

letter(
    "notifications/mail/news",
    Reach.NOTICE,
    unsubscribe="https://app.example/unsubscribe/7Yt0sample",
    organization="Northwind Traders",
    text="Marc Member has joined as member.",
    link="https://app.example/members",
)
letter(
    "notifications/mail/neutral",
    Reach.NOTICE,
    unsubscribe="https://app.example/unsubscribe/7Yt0sample",
    link="https://app.example/members",
)
letter("notifications/mail/again", Reach.ASKED, link="https://app.example/account/notifications")

TOLD = PreparedText("""
    WITH told AS (
        SELECT memberships.user_id, coalesce(choice.channel, :usual) AS channel
        FROM memberships
        JOIN users ON users.id = memberships.user_id AND users.deleted_at IS NULL
        LEFT JOIN notification_choices AS choice ON choice.user_id = memberships.user_id AND choice.kind = :kind
        WHERE memberships.organization_id = :context_tenant
            AND (memberships.role = ANY(CAST(:roles AS text[])) OR memberships.user_id = ANY(CAST(:people AS uuid[])))
            AND coalesce(choice.channel, :usual) <> 'off'

    ), added AS (
        INSERT INTO notifications (id, organization_id, user_id, kind, text, href, key, created_at)
        SELECT gen_random_uuid(), :context_tenant, user_id, :kind, :text, :href, :key, :now FROM told
        ON CONFLICT (organization_id, user_id, kind, key) DO NOTHING
        RETURNING id, user_id
    )
    SELECT added.id, added.user_id, told.channel FROM added JOIN told USING (user_id)
""")


async def notify(
    ctx: Context,
    kind: Kind,
    text: str,
    *,
    href: str,
    user_ids: Sequence[UUID] = (),
    role: Role | None = None,
    key: str = "",
) -> int:
    """Tell these people, and everybody from `role` on; how many had not heard of it.

    `href` is the page of ours where they see more. With a `key` the same news is told to a person once, ever: a job
    that runs twice, or a source that goes on failing, says it once.
    """
    told = await ctx.fetch(
        TOLD,
        usual=kind.usual.value,
        kind=kind.name,
        roles=[each.label for each in Role if role is not None and each >= role],
        people=list(user_ids),
        text=text[:300],
        href=href,
        key=key or str(new_id()),
        now=clock.now(),
    )
    by_mail = [{"notification_id": row["id"]} for row in told if row["channel"] == Channel.MAIL]
    await jobs.enqueue_each(ctx, mail_news, by_mail)
    return len(told)


@job(retry=PATIENT)
async def mail_news(ctx: Context, notification_id: UUID) -> None:
    """To whoever still wants this kind by mail and has not read it in the meantime."""
    wanted = (
        select(Notification, User.email, Organization.name, NotificationChoice.channel)
        .join(User, User.id == Notification.user_id)
        .join(Organization, Organization.id == Notification.organization_id)
        .outerjoin(
            NotificationChoice,
            and_(NotificationChoice.user_id == User.id, NotificationChoice.kind == Notification.kind),
        )
        .where(Notification.id == notification_id)
    )
    row = (await ctx.db.execute(wanted)).one_or_none()
    if row is None:
        return
    news, email, organization, channel = row
    if news.read_at is not None or (channel or KINDS[news.kind].usual) != Channel.MAIL:
        return
    await deliver(
        ctx,
        email,
        "notifications/mail/news",
        f"news.{news.id}",
        news.user_id,
        unsubscribe=unsubscribe_link(ctx, news.kind, str(news.user_id)),
        organization=_said(organization),
        text=_said(news.text),
        link=f"{ctx.settings.base_url.rstrip('/')}{news.href}",
    )


def _said(text: str) -> str:
    """What people called something, inside a line of ours: on a line of its own, or as an address, it would be a link
    that seems to come from us."""
    return " ".join(text.replace("://", ": ").split())
