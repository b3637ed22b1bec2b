"""What comes back from an asking: stored like every other reading, or the reason why there is nothing new."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from service.core import clock
from service.core.context import Context
from service.features.indicators import actions as indicators
from service.features.indicators.models import Indicator
from service.features.indicators.schemas.batches import Mode, ReadingBatch
from service.features.sources.actions._shared import fed, tell
from service.features.sources.models import Outcome, Source, SourceFeed, SourceRun
from service.guardrails.actions import action
from service.guardrails.permissions import Who
from service.integrations.sources.base import Points, Pulled

NOWHERE = "All its indicators are archived or deleted."


@action("sources.store", requires=Who.SYSTEM)
async def store_pull(ctx: Context, source_id: UUID, token: UUID, pulled: Pulled, took_ms: int) -> Source:
    """Readings, how far each feed has come, a run, and the next turn; all or nothing."""
    source, now = await ctx.get(Source, source_id), clock.now()
    source.give_back(token)
    added, open_ = 0, [each for each in await fed(ctx, source) if each[1].archived_at is None]
    source.ok_at, source.failures, source.trouble = now, 0, "" if open_ else NOWHERE
    source.rest_until, source.etag = pulled.rest_until, pulled.etag
    source.next_pull_at = max(source.next_turn(now), pulled.rest_until or now)
    for feed, indicator in open_:
        points = pulled.points.get(feed.series, [])
        if pulled.unchanged and feed.last_value is not None:
            # Not made up: the other side has just said that nothing changed since it told this value.
            points = [(now.replace(microsecond=0), feed.last_value)]
        added += await _append(ctx, feed, indicator, points)
        indicator.fed_by(source.id, now)
    outcome = Outcome.STORED if added else Outcome.UNCHANGED
    ctx.add(SourceRun(source_id=source.id, outcome=outcome, added=added, took_ms=took_ms, detail=source.trouble))
    ctx.facts["added"] = added
    return source


async def _append(ctx: Context, feed: SourceFeed, indicator: Indicator, points: Points) -> int:
    """What is there already stays as it is: a correction by a person outlives what the source says again."""
    if not points:
        return 0
    feed.last_at, feed.last_value = points[-1]
    batch = ReadingBatch(readings=[{"at": at, "value": value} for at, value in points], mode=Mode.SKIP_BAD)
    return (await indicators.append_batch(ctx, indicator.id, batch)).added


@action("sources.fail", requires=Who.SYSTEM)
async def fail_pull(
    ctx: Context, source_id: UUID, token: UUID, outcome: Outcome, why: str, again_at: datetime, took_ms: int
) -> Source:
    """Nothing new: the last value stands, and its tile says as of when and why."""
    source = await ctx.get(Source, source_id)
    source.give_back(token)
    source.trouble = why[:300]
    source.failures += outcome is Outcome.AWAY
    source.rest_until = again_at if outcome is Outcome.LIMITED else None
    source.next_pull_at = again_at
    ctx.add(SourceRun(source_id=source.id, outcome=outcome, took_ms=took_ms, detail=source.trouble))
    await tell(ctx, source, source.trouble)
    return source


@action("sources.stop", requires=Who.SYSTEM)
async def stop_source(ctx: Context, source_id: UUID, token: UUID, why: str, took_ms: int) -> Source:
    """The credentials are refused: asking on would look like guessing, so people are told (jobs) and it is paused."""
    source = await ctx.get(Source, source_id)
    source.give_back(token)
    source.pause(why[:300])
    ctx.add(SourceRun(source_id=source.id, outcome=Outcome.REFUSED, took_ms=took_ms, detail=source.trouble))
    await tell(ctx, source, source.trouble)
    return source
