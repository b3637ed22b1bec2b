"""Writes. The decorator line is the whole policy; rules about one indicator live on the model."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from service.core import clock
from service.core.context import Context
from service.core.errors import Conflict, NotFound
from service.core.statements import Prepared, PreparedText
from service.features.indicators.models import Indicator
from service.features.indicators.schemas import BatchRead, IndicatorCreate, IndicatorUpdate, ReadingCreate
from service.guardrails import soft_delete
from service.guardrails.actions import action
from service.guardrails.entitlements import Feature, counted
from service.guardrails.permissions import Role

# One round trip for what belongs together: store what is new, summarise its hours, move the indicator's latest value.
# The summary is additive, so two batches for the same hour wait for each other and both count.
APPEND = PreparedText("""
    WITH sent AS (
        SELECT * FROM unnest(CAST(:ats AS timestamptz[]), CAST(:readings AS double precision[])) AS sent(at, value)
    ), added AS (
        INSERT INTO readings (organization_id, indicator_id, at, value)
        SELECT :context_tenant, :indicator_id, at, value FROM sent
        ON CONFLICT DO NOTHING
        RETURNING at, value
    ), summary AS (
        INSERT INTO reading_hours AS stored (organization_id, indicator_id, hour, count, total, low, high)
        SELECT :context_tenant, :indicator_id, date_trunc('hour', at, 'UTC'),
            count(*), sum(value), min(value), max(value)
        FROM added GROUP BY 3
        ON CONFLICT (organization_id, indicator_id, hour) DO UPDATE SET
            count = stored.count + excluded.count, total = stored.total + excluded.total,
            low = least(stored.low, excluded.low), high = greatest(stored.high, excluded.high)
    ), latest AS (
        UPDATE indicators SET
            changed_at = :now,
            latest_at = CASE WHEN newest.at >= coalesce(latest_at, newest.at) THEN newest.at ELSE latest_at END,
            latest_value = CASE WHEN newest.at >= coalesce(latest_at, newest.at) THEN newest.value ELSE latest_value END
        FROM (SELECT at, value FROM added ORDER BY at DESC LIMIT 1) AS newest
        WHERE indicators.organization_id = :context_tenant AND indicators.id = :indicator_id
    )
    SELECT
        (SELECT count(*) FROM added) AS added,
        (SELECT min(sent.at) FROM sent JOIN readings AS stored
            ON stored.organization_id = :context_tenant AND stored.indicator_id = :indicator_id AND stored.at = sent.at
            WHERE stored.value <> sent.value) AS contradicted
""")

CORRECT = PreparedText("""
    WITH corrected AS (
        UPDATE readings SET value = :reading, corrected_at = :now
        WHERE organization_id = :context_tenant AND indicator_id = :indicator_id AND at = :at
        RETURNING at
    ), hour_readings AS (
        SELECT CASE WHEN at = :at THEN CAST(:reading AS double precision) ELSE value END AS value
        FROM readings
        WHERE organization_id = :context_tenant AND indicator_id = :indicator_id
          AND at >= date_trunc('hour', CAST(:at AS timestamptz), 'UTC')
          AND at < date_trunc('hour', CAST(:at AS timestamptz), 'UTC') + interval '1 hour'
    ), summary AS (
        UPDATE reading_hours SET total = fresh.total, low = fresh.low, high = fresh.high
        FROM (SELECT sum(value) AS total, min(value) AS low, max(value) AS high FROM hour_readings) AS fresh
        WHERE organization_id = :context_tenant AND indicator_id = :indicator_id
          AND hour = date_trunc('hour', CAST(:at AS timestamptz), 'UTC') AND EXISTS (SELECT FROM corrected)
    ), latest AS (
        UPDATE indicators SET
            changed_at = :now, latest_value = CASE WHEN latest_at = :at THEN :reading ELSE latest_value END
        WHERE organization_id = :context_tenant AND id = :indicator_id AND EXISTS (SELECT FROM corrected)
    )
    SELECT count(*) AS corrected FROM corrected
""")


HOW_MANY = Prepared(select(func.count().label("used")).select_from(Indicator))


@counted(Feature.INDICATORS, "delete one")
async def _count_indicators(ctx: Context) -> int:
    """Archived ones count: they keep their readings. Those in the bin do not, and ask on their way back."""
    row = await ctx.fetch_one(HOW_MANY)
    return row["used"] if row else 0


@action("indicators.create", requires=Role.MEMBER)
async def create_indicator(ctx: Context, given: IndicatorCreate) -> Indicator:
    await ctx.allow(Feature.INDICATORS)
    indicator = Indicator(**given.model_dump(), created_by=ctx.actor.id)
    ctx.add(indicator)
    await _flush_unique(ctx)
    return indicator


@action("indicators.update", requires=Role.MEMBER)
async def update_indicator(ctx: Context, indicator_id: UUID, given: IndicatorUpdate) -> Indicator:
    indicator = await ctx.get(Indicator, indicator_id)
    for name, value in given.model_dump(exclude_none=True).items():
        setattr(indicator, name, value)
    await _flush_unique(ctx)
    return indicator


@action("indicators.archive", requires=Role.MEMBER)
async def archive_indicator(ctx: Context, indicator_id: UUID) -> Indicator:
    indicator = await ctx.get(Indicator, indicator_id)
    indicator.archive()
    return indicator


@action("indicators.unarchive", requires=Role.MEMBER)
async def unarchive_indicator(ctx: Context, indicator_id: UUID) -> Indicator:
    indicator = await ctx.get(Indicator, indicator_id)
    indicator.unarchive()
    return indicator


@action("indicators.delete", requires=Role.MEMBER, while_unpaid=True)
async def delete_indicator(ctx: Context, indicator_id: UUID) -> Indicator:
    indicator = await ctx.get(Indicator, indicator_id)
    await soft_delete.delete(ctx, indicator)
    return indicator


@action("indicators.restore", requires=Role.MEMBER)
async def restore_indicator(ctx: Context, indicator_id: UUID) -> Indicator:
    await ctx.allow(Feature.INDICATORS)
    return await soft_delete.restore(ctx, Indicator, indicator_id)


@action("indicators.append", requires=Role.MEMBER)
async def append_readings(ctx: Context, indicator_id: UUID, readings: list[ReadingCreate]) -> BatchRead:
    """Store all or nothing; a reading that is already there with the same value is no error, so a retry is safe."""
    indicator = await ctx.get(Indicator, indicator_id)
    indicator.refuse_readings_when_archived()
    by_moment = {reading.at: reading.value for reading in readings}
    if len(by_moment) != len(readings):
        raise Conflict("The batch has two readings for the same moment.", mend="Send one reading per moment.")
    stored = await ctx.fetch_one(
        APPEND, indicator_id=indicator_id, ats=list(by_moment), readings=list(by_moment.values()), now=clock.now()
    )
    assert stored is not None  # noqa: S101 - the statement always answers with one row
    if stored["contradicted"] is not None:
        raise Conflict(
            f"There is already another value at {stored['contradicted'].isoformat()}; nothing was stored.",
            mend="Correct the stored reading instead, or leave it out.",
        )
    ctx.facts["added"] = stored["added"]
    return BatchRead(added=stored["added"], unchanged=len(readings) - stored["added"])


@action("indicators.correct", requires=Role.MEMBER)
async def correct_reading(ctx: Context, indicator_id: UUID, at: datetime, value: float) -> Indicator:
    indicator = await ctx.get(Indicator, indicator_id)
    indicator.refuse_readings_when_archived()
    done = await ctx.fetch_one(CORRECT, indicator_id=indicator_id, at=at, reading=value, now=clock.now())
    if done is None or not done["corrected"]:
        raise NotFound("There is no reading at this moment.", mend="Append it instead of correcting it.")
    ctx.facts["at"] = at.isoformat()
    return indicator


async def _flush_unique(ctx: Context) -> None:
    try:
        await ctx.db.flush()
    except IntegrityError as error:
        if "uq_indicators_live_name" not in str(error.orig):
            raise
        taken = "An indicator with this name exists already."
        raise Conflict(taken, mend="Choose another name.", fields={"name": taken}) from error
