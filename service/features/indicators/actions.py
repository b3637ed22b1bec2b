"""Writes. The decorator line is the whole policy; rules about one indicator live on the model."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, bindparam, func, select
from sqlalchemy.exc import IntegrityError

from service.core import clock
from service.core.context import Context
from service.core.errors import Conflict, Invalid, NotFound, ServiceError
from service.core.statements import Prepared, PreparedText
from service.features.indicators.models import Indicator
from service.features.indicators.queries import READING
from service.features.indicators.schemas import Appended, IndicatorCreate, IndicatorUpdate, ReadingCreate
from service.features.indicators.schemas.batches import (
    NAMED,
    BatchRead,
    Judged,
    MixedBatch,
    Mode,
    ReadingBatch,
    Refusal,
    judge,
)
from service.guardrails import preconditions, soft_delete
from service.guardrails.actions import action
from service.guardrails.entitlements import Feature, counted
from service.guardrails.permissions import Role

# Locked in one order, so that two batches never wait for each other in a ring.
LOCKED = Prepared(
    select(Indicator.id, Indicator.archived_at)
    .where(Indicator.id == any_(bindparam("ids", type_=ARRAY(Uuid()))))
    .order_by(Indicator.id)
    .with_for_update()
)

# One round trip for what belongs together: store what is new, summarise its hours, move the latest values.
# What was there before is looked for only where something was: PostgreSQL reads `known` only when it is asked.
APPEND = PreparedText("""
    WITH sent AS (
        SELECT * FROM unnest(
            CAST(:indicators AS uuid[]), CAST(:ats AS timestamptz[]), CAST(:readings AS double precision[])
        ) WITH ORDINALITY AS sent(indicator_id, at, value, place)
    ), added AS (
        INSERT INTO readings (organization_id, indicator_id, at, value)
        SELECT :context_tenant, indicator_id, at, value FROM sent
        ON CONFLICT DO NOTHING
        RETURNING indicator_id, at, value
    ), summary AS (
        INSERT INTO reading_hours AS stored (organization_id, indicator_id, hour, count, total, low, high)
        SELECT :context_tenant, indicator_id, date_trunc('hour', at, 'UTC'),
            count(*), sum(value), min(value), max(value)
        FROM added GROUP BY 2, 3
        ON CONFLICT (organization_id, indicator_id, hour) DO UPDATE SET
            count = stored.count + excluded.count, total = stored.total + excluded.total,
            low = least(stored.low, excluded.low), high = greatest(stored.high, excluded.high)
    ), latest AS (
        UPDATE indicators SET
            changed_at = :now,
            latest_at = CASE WHEN newest.at >= coalesce(latest_at, newest.at) THEN newest.at ELSE latest_at END,
            latest_value = CASE WHEN newest.at >= coalesce(latest_at, newest.at) THEN newest.value ELSE latest_value END
        FROM (
            SELECT DISTINCT ON (indicator_id) indicator_id, at, value FROM added ORDER BY indicator_id, at DESC
        ) AS newest
        WHERE indicators.organization_id = :context_tenant AND indicators.id = newest.indicator_id
    ), known AS (
        SELECT sent.place - 1 AS place, stored.value = sent.value AS same
        FROM sent JOIN readings AS stored ON stored.organization_id = :context_tenant
            AND stored.indicator_id = sent.indicator_id AND stored.at = sent.at
    )
    SELECT added.many AS added,
        CASE WHEN added.many < cardinality(:ats) THEN ARRAY(SELECT place FROM known WHERE same ORDER BY 1)
            ELSE '{}' END AS unchanged,
        CASE WHEN added.many < cardinality(:ats) THEN ARRAY(SELECT place FROM known WHERE NOT same ORDER BY 1)
            ELSE '{}' END AS contradicted
    FROM (SELECT count(*) AS many FROM added) AS added
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


ARCHIVED = "An archived indicator takes no readings."
MOST_NAMED = 20
"""Indicators that one audit row names."""
HOW_MANY = Prepared(select(func.count().label("used")).select_from(Indicator))


@counted(Feature.INDICATORS, "delete one")
async def _count_indicators(ctx: Context) -> int:
    """Archived ones count: they keep their readings. Those in the bin do not, and ask on their way back."""
    row = await ctx.fetch_one(HOW_MANY)
    return row["used"] if row else 0


@action("indicators.create", requires=Role.MEMBER)
async def create_indicator(ctx: Context, given: IndicatorCreate) -> Indicator:
    await ctx.allow(Feature.INDICATORS)
    indicator = Indicator(**given.model_dump(), created_by=ctx.person_id)
    ctx.add(indicator)
    await _flush_unique(ctx)
    return indicator


@action("indicators.update", requires=Role.MEMBER)
async def update_indicator(ctx: Context, indicator_id: UUID, given: IndicatorUpdate) -> Indicator:
    indicator = await ctx.get(Indicator, indicator_id)
    preconditions.insist(ctx, indicator.changed_at)
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
    preconditions.insist(ctx, indicator.changed_at)
    await soft_delete.delete(ctx, indicator)
    return indicator


@action("indicators.restore", requires=Role.MEMBER)
async def restore_indicator(ctx: Context, indicator_id: UUID) -> Indicator:
    await ctx.allow(Feature.INDICATORS)
    return await soft_delete.restore(ctx, Indicator, indicator_id)


@action("indicators.append", requires=Role.MEMBER)
async def append_reading(ctx: Context, indicator_id: UUID, reading: ReadingCreate) -> Appended:
    """A reading that is already there with the same value is no error, so a retry is safe."""
    await _lock(ctx, indicator_id)
    stored = await _store(ctx, [indicator_id], [reading.at], [reading.value])
    if stored["contradicted"]:
        raise Conflict(
            f"There is already another value at {reading.at.isoformat()}; nothing was stored.",
            mend="Correct the stored reading instead, or leave it out.",
        )
    return Appended(added=stored["added"], unchanged=len(stored["unchanged"]))


@action("indicators.append_batch", requires=Role.MEMBER)
async def append_batch(ctx: Context, indicator_id: UUID, batch: ReadingBatch) -> BatchRead:
    """Up to 10,000 readings of one indicator, with a verdict on each; raises Invalid or Conflict naming the bad ones.

    With `skip_bad` the good ones are stored all the same, and the answer names the bad ones.
    """
    judged = await judge(batch)
    _insist(Invalid, batch, judged)
    await _lock(ctx, indicator_id)
    return await _store_batch(ctx, batch, judged, [indicator_id] * len(judged.places))


@action("indicators.append_mixed", requires=Role.MEMBER)
async def append_mixed(ctx: Context, batch: MixedBatch) -> BatchRead:
    """The same for readings that name their indicators; one that takes none refuses its own readings only."""
    judged = await judge(batch)
    _insist(Invalid, batch, judged)
    found = await ctx.fetch(LOCKED, ids=list({reading["indicator_id"] for reading in judged.readings}))
    archived = {row["id"]: row["archived_at"] is not None for row in found}
    bad: dict[int, tuple[str, str]] = {}
    for place, reading in zip(judged.places, judged.readings, strict=True):
        if archived.get(reading["indicator_id"], True):
            known = reading["indicator_id"] in archived
            bad[place] = "indicator_id", ARCHIVED if known else "There is no such indicator."
    judged.keep(bad)
    _insist(Conflict, batch, judged)
    return await _store_batch(ctx, batch, judged, [reading["indicator_id"] for reading in judged.readings])


@action("indicators.correct", requires=Role.MEMBER)
async def correct_reading(ctx: Context, indicator_id: UUID, at: datetime, value: float) -> Indicator:
    indicator = await ctx.get(Indicator, indicator_id)
    indicator.refuse_readings_when_archived()
    if ctx.if_match and (stored := await ctx.fetch_one(READING, indicator_id=indicator_id, at=at)):
        preconditions.insist(ctx, stored["corrected_at"] or stored["at"])
    done = await ctx.fetch_one(CORRECT, indicator_id=indicator_id, at=at, reading=value, now=clock.now())
    if done is None or not done["corrected"]:
        raise NotFound("There is no reading at this moment.", mend="Append it instead of correcting it.")
    ctx.facts["at"] = at.isoformat()
    await ctx.db.refresh(indicator)  # the statement has gone past the ORM
    return indicator


async def _lock(ctx: Context, indicator_id: UUID) -> None:
    """Until the transaction ends, no other batch for this indicator; it must be there and take readings."""
    found = await ctx.fetch_one(LOCKED, ids=[indicator_id])
    if found is None:
        raise NotFound("There is no such indicator.")
    if found["archived_at"] is not None:
        raise Conflict(ARCHIVED, mend="Bring it back from the archive first.")


async def _store(ctx: Context, indicators: list[UUID], ats: list[datetime], values: list[float]) -> Any:
    [stored] = await ctx.fetch(APPEND, indicators=indicators, ats=ats, readings=values, now=clock.now())
    ctx.facts |= {"added": stored["added"], "indicators": sorted(map(str, set(indicators)))[:MOST_NAMED]}
    return stored


async def _store_batch(
    ctx: Context, batch: ReadingBatch | MixedBatch, judged: Judged, indicators: list[UUID]
) -> BatchRead:
    places, ats = judged.places, [reading["at"] for reading in judged.readings]
    stored = await _store(ctx, indicators, ats, [reading["value"] for reading in judged.readings])
    judged.keep({places[at]: ("value", "There is another value at this moment.") for at in stored["contradicted"]})
    _insist(Conflict, batch, judged)
    refused = sorted(judged.refused)
    return BatchRead(
        added=stored["added"],
        unchanged=len(stored["unchanged"]),
        refused=len(refused),
        unchanged_indexes=[places[at] for at in stored["unchanged"]],
        refused_indexes=refused,
        refusals=[
            Refusal(index=at, field=judged.refused[at][0], message=judged.refused[at][1]) for at in refused[:NAMED]
        ],
    )


def _insist(kind: type[ServiceError], batch: ReadingBatch | MixedBatch, judged: Judged) -> None:
    """All or nothing: one refused reading refuses the batch, and the problem names it by its index."""
    if batch.mode is Mode.SKIP_BAD or not judged.refused:
        return
    refused = sorted(judged.refused)
    fields = {
        ".".join(filter(None, ("readings", str(at), judged.refused[at][0]))): judged.refused[at][1]
        for at in refused[:NAMED]
    }
    more = f" The first {NAMED} are named." if len(refused) > NAMED else ""
    raise kind(
        f"{len(refused):,} of {len(batch.readings):,} readings cannot be stored; nothing was stored.{more}",
        mend="Correct the readings that are named, or send 'mode': 'skip_bad' to store the others.",
        fields=fields,
    )


async def _flush_unique(ctx: Context) -> None:
    try:
        await ctx.db.flush()
    except IntegrityError as error:
        if "uq_indicators_live_name" not in str(error.orig):
            raise
        taken = "An indicator with this name exists already."
        raise Conflict(taken, mend="Choose another name.", fields={"name": taken}) from error
