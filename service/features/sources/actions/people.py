"""What people do with sources. Nothing here asks the outside: what is connected was tried before (pages)."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from service.core.context import Context
from service.core.errors import Conflict
from service.core.ids import new_id
from service.features.indicators import actions as indicators
from service.features.indicators.models import Indicator
from service.features.indicators.schemas import IndicatorCreate
from service.features.sources.actions._shared import fed, tell
from service.features.sources.models import Source, SourceFeed
from service.features.sources.queries import HOW_MANY
from service.features.sources.schemas import Series, Wish
from service.guardrails import soft_delete
from service.guardrails.actions import action
from service.guardrails.entitlements import Feature, counted
from service.guardrails.permissions import Role

PAUSED = "Its source is paused."


@counted(Feature.SOURCES, "delete one")
async def _count_sources(ctx: Context) -> int:
    row = await ctx.fetch_one(HOW_MANY)
    return row["used"] if row else 0


@action("sources.connect", requires=Role.ADMIN)
async def connect_source(ctx: Context, wish: Wish) -> Source:
    """Its indicators are those of the same name, so that a source connected anew goes on where the old one ended."""
    await ctx.allow(Feature.SOURCES)
    known = await _known(ctx, [series.name.lower() for series in wish.series])
    source = Source(id=new_id(), kind=wish.kind, target=wish.target, config=dict(wish.config), created_by=ctx.actor.id)
    source.keep_key(wish.key)
    ctx.add(source)
    try:
        await ctx.db.flush()
    except IntegrityError as error:
        if "uq_sources_live_target" not in str(error.orig):
            raise
        raise Conflict(f"{wish.target} is connected already.", mend="See the list of sources.") from error
    for series in wish.series:
        indicator = await _indicator_for(ctx, series, known.get(series.name.lower()))
        indicator.fed_by(source.id, None)
        ctx.add(SourceFeed(source_id=source.id, series=series.key, indicator_id=indicator.id))
    return source


async def _known(ctx: Context, names: list[str]) -> dict[str, Indicator]:
    """Locked in one order, as a batch does: taken one by one as the series come, the two waited for each other."""
    wanted = select(Indicator).where(func.lower(Indicator.name).in_(names)).order_by(Indicator.id).with_for_update()
    return {one.name.lower(): one for one in await ctx.db.scalars(wanted)}


async def _indicator_for(ctx: Context, series: Series, found: Indicator | None) -> Indicator:
    if found is None:
        given = IndicatorCreate(name=series.name[:120], description=series.about, unit=series.unit)
        return await indicators.create_indicator(ctx, given)
    if found.source_id is not None:
        raise Conflict(f"“{found.name}” is fed by another source already.", mend="Rename that indicator first.")
    found.refuse_readings_when_archived()
    return found


@action("sources.change_key", requires=Role.ADMIN)
async def change_key(ctx: Context, source_id: UUID, key: str) -> Source:
    source = await ctx.get(Source, source_id)
    if source.trouble:
        source.paused_at = None  # it stood still for want of a key; what a person paused stays paused
    source.keep_key(key)
    source.rest_until, source.trouble, source.failures = None, "", 0  # another key has a limit of its own
    source.ask_soon()
    await tell(ctx, source, PAUSED if source.paused_at else "")
    ctx.facts["keyed"] = bool(key)
    return source


@action("sources.pause", requires=Role.MEMBER, while_unpaid=True)
async def pause_source(ctx: Context, source_id: UUID) -> Source:
    source = await ctx.get(Source, source_id)
    source.pause()
    await tell(ctx, source, PAUSED)
    return source


@action("sources.resume", requires=Role.MEMBER)
async def resume_source(ctx: Context, source_id: UUID) -> Source:
    source = await ctx.get(Source, source_id)
    source.resume()
    await tell(ctx, source, source.trouble)
    return source


@action("sources.pull_now", requires=Role.MEMBER, while_impersonated=True)
async def pull_now(ctx: Context, source_id: UUID) -> Source:
    source = await ctx.get(Source, source_id)
    if source.paused_at is not None:
        raise Conflict("A paused source is not asked.", mend="Resume it first.")
    source.ask_soon()
    return source


@action("sources.delete", requires=Role.ADMIN, while_unpaid=True)
async def delete_source(ctx: Context, source_id: UUID) -> Source:
    """Its indicators stay, with all their readings, and belong to nobody but the organization from now on."""
    source = await ctx.get(Source, source_id)
    for _, indicator in await fed(ctx, source):
        indicator.fed_by(None, None)
    source.lease_token = source.lease_until = None
    await soft_delete.delete(ctx, source)
    return source


@action("sources.restore", requires=Role.ADMIN)
async def restore_source(ctx: Context, source_id: UUID) -> Source:
    """It feeds again what nothing else feeds by now."""
    await ctx.allow(Feature.SOURCES)
    source = await soft_delete.restore(ctx, Source, source_id)
    free = await ctx.db.scalars(
        select(Indicator)
        .join(SourceFeed, SourceFeed.indicator_id == Indicator.id)
        .where(SourceFeed.source_id == source.id, Indicator.source_id.is_(None))
        .order_by(Indicator.id)
        .with_for_update()
    )
    for indicator in free:
        indicator.fed_by(source.id, source.ok_at, PAUSED if source.paused_at else source.trouble)
    return source
