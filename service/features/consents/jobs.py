"""What depends on people's choices: news by mail, a daily count, and telling somebody before their restriction ends."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from prometheus_client import Gauge
from sqlalchemy import select

from service.core import clock, telemetry
from service.core.context import Context
from service.features.accounts.models import User
from service.features.consents import actions
from service.features.consents.models import PRODUCT_NEWS, USAGE_FIGURES, News
from service.features.consents.schemas import NOTICE_DAYS
from service.guardrails import jobs
from service.guardrails.jobs import Event, job, on, periodic
from service.guardrails.mailing import Reach
from service.guardrails.purposes import ProcessingLimit, count_permitted, permitted, serves
from service.web.mail import PATIENT, deliver, letter, unsubscribe_link

BATCH = 500
letter(
    "consents/mail/product",
    Reach.NOTICE,
    PRODUCT_NEWS,
    unsubscribe="https://app.example/unsubscribe/7Yt0sample",
    subject="Sources can be paused",
    text="From today on you can pause a source for a while, without losing its readings.",
    link="https://app.example/privacy/choices",
)
letter("consents/mail/lifting", Reach.MUST, days=NOTICE_DAYS, link="https://app.example/privacy/choices")
AGREED = """
    SELECT id FROM users WHERE id > $1 AND deleted_at IS NULL AND email_verified_at IS NOT NULL ORDER BY id LIMIT $2
"""
ACTIVE = """
    SELECT DISTINCT actor_id AS person FROM audit_log
    WHERE id >= $4 AND actor_kind IN ('user', 'staff') AND actor_id IS NOT NULL AND outcome = 'done'
"""
active = Gauge(
    "people_active", "Who did something lately, without those who object", ("days",), registry=telemetry.REGISTRY
)


@on(actions.send_news)
async def begin_to_spread(ctx: Context, event: Event) -> None:
    await jobs.enqueue(ctx, spread_news, news_id=event.object_id, after=UUID(int=0))


@job(timeout=timedelta(minutes=2))
@serves(PRODUCT_NEWS)
async def spread_news(ctx: Context, news_id: UUID, after: UUID) -> None:
    """One mail job for each who agreed, some hundred people at a time; the next turn goes on after them."""
    people = [row["id"] for row in await ctx.work.raw.fetch(AGREED, after, BATCH)]
    agreed = await permitted(ctx.work.raw, PRODUCT_NEWS, people)
    await jobs.enqueue_each(ctx, mail_news, [{"news_id": news_id, "user_id": each} for each in sorted(agreed)])
    if len(people) == BATCH:
        await jobs.enqueue(ctx, spread_news, news_id=news_id, after=people[-1])


@job(retry=PATIENT)
async def mail_news(ctx: Context, news_id: UUID, user_id: UUID) -> None:
    """Asks once more by itself, just before it is sent: a no that came in between counts."""
    news = await ctx.db.scalar(select(News).where(News.id == news_id))
    email = await ctx.db.scalar(select(User.email).where(User.id == user_id))
    if news is None or email is None:
        return
    await deliver(
        ctx,
        email,
        "consents/mail/product",
        f"product.{news.id}.{user_id}",
        user_id,
        unsubscribe=unsubscribe_link(ctx, PRODUCT_NEWS.name, str(user_id)),
        subject=news.subject,
        text=news.text,
        link=f"{ctx.settings.base_url.rstrip('/')}/privacy/choices",
    )


@on(actions.lift_restriction, retry=PATIENT)
async def tell_before_it_ends(ctx: Context, event: Event) -> None:
    """First the mail, then the date: while the mail has not been taken the restriction has no end. Locked only for the
    date: whoever ends it themselves meanwhile does not wait for our mail provider."""
    wanted = select(ProcessingLimit).where(ProcessingLimit.id == event.object_id)
    limit = await ctx.db.scalar(wanted)
    if limit is None or limit.lifts_at is not None:
        return
    found = select(User.email).where(User.id == limit.user_id)
    email = await ctx.db.scalar(found, execution_options={"include_deleted": True})
    link = f"{ctx.settings.base_url.rstrip('/')}/privacy/choices"
    if email is not None:
        await deliver(ctx, email, "consents/mail/lifting", f"lifting.{limit.id}", days=NOTICE_DAYS, link=link)
    limit = await ctx.db.scalar(wanted.with_for_update().execution_options(populate_existing=True))
    if limit is not None and limit.lifts_at is None:
        limit.lifts_at = clock.now() + timedelta(days=NOTICE_DAYS)


@periodic("10 4 * * *", timeout=timedelta(minutes=2))
@serves(USAGE_FIGURES)
async def count_active_people(ctx: Context) -> None:
    await ctx.work.raw.execute("SET LOCAL statement_timeout = '30s'")  # a week of the log, once a night
    for days in (1, 7):
        since = int((clock.now() - timedelta(days=days)).timestamp() * 1000)  # ids are UUIDv7: they begin with the time
        found = await count_permitted(ctx.work.raw, USAGE_FIGURES, ACTIVE, UUID(int=since << 80))
        active.labels(str(days)).set(found)
