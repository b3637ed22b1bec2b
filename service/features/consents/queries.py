"""Reads: where a person stands on each purpose; for staff, whose data must rest, and what was sent."""

from __future__ import annotations

from sqlalchemy import bindparam, func, or_, select
from sqlalchemy.dialects.postgresql import distinct_on

from service.core import clock
from service.core.context import Context
from service.core.statements import Prepared, context_user
from service.features.consents.models import News
from service.features.consents.schemas import Choices, NewsRead, NewsWanted, RestrictionRead, RestrictionsWanted, Stand
from service.guardrails.actions import query
from service.guardrails.pagination import Keyset, Page, Position, paginate
from service.guardrails.permissions import Who
from service.guardrails.purposes import EVERYTHING, PURPOSES, Basis, Consent, ProcessingLimit
from service.web.staff_lists import People

NEWEST_WORDS = Prepared(
    select(Consent.purpose, Consent.version, Consent.given, Consent.at)
    .where(Consent.user_id == context_user())
    .ext(distinct_on(Consent.purpose))
    .order_by(Consent.purpose, Consent.id.desc())
)
LIMITS = Prepared(
    select(ProcessingLimit.purpose, ProcessingLimit.placed_at, ProcessingLimit.lifts_at).where(
        ProcessingLimit.user_id == context_user(),
        or_(ProcessingLimit.lifts_at.is_(None), ProcessingLimit.lifts_at > bindparam("now")),
    )
)
RESTRICTIONS = People(
    select(
        ProcessingLimit.id,
        ProcessingLimit.user_id,
        ProcessingLimit.reason,
        ProcessingLimit.placed_at,
        ProcessingLimit.lifting_asked_at,
        ProcessingLimit.lifts_at,
    ).where(ProcessingLimit.purpose == EVERYTHING),
    RestrictionRead,
    person=ProcessingLimit.user_id,
    key=ProcessingLimit.id,
)
_news = select(News.id, News.subject, News.created_at)
# Looks at each: a year's news are some dozens.
_about = _news.where(func.strpos(func.lower(News.subject), bindparam("words")) > 0)
NEWS, NEWS_ABOUT = (Keyset(each, order=(News.created_at.desc(), News.id.desc())) for each in (_news, _about))


@query("consents.list", requires=Who.SIGNED_IN)
async def list_choices(ctx: Context) -> Choices:
    """Every purpose that there is, with where the asking person stands."""
    words = {row["purpose"]: row for row in await ctx.fetch(NEWEST_WORDS)}
    limits = {row["purpose"]: row for row in await ctx.fetch(LIMITS, now=clock.now())}
    stands = []
    for aim in PURPOSES.values():
        if aim.basis is Basis.CONSENT:
            word = words.get(aim.name)
            agreed = word is not None and word["given"]
            current = word is not None and agreed and word["version"] == aim.version
            stands.append(
                Stand(aim, bool(current), bool(agreed and not current), word["at"] if word is not None else None)
            )
        else:
            limit = limits.get(aim.name)
            stands.append(Stand(aim, limit is None, False, limit["placed_at"] if limit else None))
    rest = limits.get(EVERYTHING)
    return Choices(stands, rest["placed_at"] if rest else None, rest["lifts_at"] if rest else None)


@query("consents.list_restrictions", requires=Who.STAFF)
async def list_restrictions(ctx: Context, wanted: RestrictionsWanted, page: Position) -> Page[RestrictionRead]:
    """Whose data must rest, or rested, and why: which the list shows to who has given a reason."""
    return await RESTRICTIONS.page(ctx, wanted, page, wanted.limit_id)


@query("consents.list_news", requires=Who.STAFF)
async def list_news(ctx: Context, wanted: NewsWanted, page: Position) -> Page[NewsRead]:
    """Newest first; or those with these words in their subject."""
    if wanted.q:
        return await paginate(ctx, NEWS_ABOUT, page, NewsRead, words=wanted.q.lower())
    return await paginate(ctx, NEWS, page, NewsRead)
