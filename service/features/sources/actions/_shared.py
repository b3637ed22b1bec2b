"""What a source feeds, and telling those indicators how things stand."""

from __future__ import annotations

from sqlalchemy import select

from service.core.context import Context
from service.features.indicators.models import Indicator
from service.features.sources.models import Source, SourceFeed


async def fed(ctx: Context, source: Source) -> list[tuple[SourceFeed, Indicator]]:
    """Feeds and their living indicators, locked in one order; without those that something else feeds by now."""
    rows = await ctx.db.execute(
        select(SourceFeed, Indicator)
        .join(Indicator, Indicator.id == SourceFeed.indicator_id)
        .where(SourceFeed.source_id == source.id, Indicator.source_id == source.id)
        .order_by(Indicator.id)
        .with_for_update()
    )
    return [(feed, indicator) for feed, indicator in rows]


async def tell(ctx: Context, source: Source, stale_because: str) -> None:
    for _, indicator in await fed(ctx, source):
        indicator.fed_by(source.id, source.ok_at, stale_because)
