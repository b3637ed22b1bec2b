"""Reads. Every statement is prepared once and filtered by tenant and deletion without saying so."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Interval, bindparam, func, literal_column, select
from sqlalchemy.dialects.postgresql import TIMESTAMP, aggregate_order_by

from service.core import clock
from service.core.context import Context
from service.core.errors import Invalid, NotFound
from service.core.statements import Prepared
from service.features.indicators.models import Indicator, IndicatorWord, Reading, ReadingHour, Step
from service.features.indicators.schemas import (
    Aggregates,
    Bucket,
    Dashboard,
    DeletedIndicatorRead,
    Detail,
    IndicatorRead,
    ReadingRead,
    Readings,
    Tile,
)
from service.guardrails.actions import query
from service.guardrails.entitlements import PlanLimit, history
from service.guardrails.pagination import Keyset, Page, PageRequest, Position, paginate
from service.guardrails.permissions import Role

TILE_LIMIT = 60
BUCKET_LIMIT = 5_000
SEARCH_TERMS = 4
TREND = timedelta(hours=48)
REFRESH_SECONDS = 30
LAST_CHARACTER = "\U0010ffff"

COLUMNS = (
    Indicator.id,
    Indicator.name,
    Indicator.description,
    Indicator.unit,
    Indicator.created_at,
    Indicator.changed_at,
    Indicator.archived_at,
    Indicator.latest_value,
    Indicator.latest_at,
)
BY_NAME = (Indicator.name.asc(), Indicator.id.asc())
ALIVE = select(*COLUMNS).where(Indicator.archived_at.is_(None))

LIST = Keyset(ALIVE, order=BY_NAME)
ARCHIVED = Keyset(select(*COLUMNS).where(Indicator.archived_at.is_not(None)), order=BY_NAME)
BIN = Keyset(
    select(Indicator.id, Indicator.name, Indicator.deleted_at).where(Indicator.deleted_at.is_not(None)),
    order=(Indicator.id.desc(),),
    include_deleted=True,
)
ONE = Prepared(select(*COLUMNS, Indicator.source_id).where(Indicator.id == bindparam("id")))
READING = Prepared(
    select(Reading.at, Reading.value, Reading.corrected_at).where(
        Reading.indicator_id == bindparam("indicator_id"), Reading.at == bindparam("at")
    )
)
READINGS = Keyset(
    select(Reading.at, Reading.value, Reading.corrected_at).where(
        Reading.indicator_id == bindparam("indicator_id"),
        # Relative to now, and a parameter that stays the same: a cursor is bound to its list's parameters.
        Reading.at >= func.date_trunc("day", func.now() - bindparam("reach", type_=Interval()), "UTC"),
    ),
    order=(Reading.at.desc(),),
)


def _search(terms: int) -> Keyset:
    """Indicators that contain every term as the beginning of a word; one index range per term."""
    matches = [
        Indicator.id.in_(
            select(IndicatorWord.indicator_id).where(
                IndicatorWord.word >= bindparam(f"from_{n}"), IndicatorWord.word < bindparam(f"to_{n}")
            )
        )
        for n in range(terms)
    ]
    return Keyset(ALIVE.where(*matches), order=BY_NAME)


SEARCH = {terms: _search(terms) for terms in range(1, SEARCH_TERMS + 1)}

_mean = ReadingHour.total / ReadingHour.count
_hour = ReadingHour.hour
_recent = _hour >= bindparam("recent", type_=TIMESTAMP(timezone=True))
_trends = (
    select(
        ReadingHour.indicator_id,
        func.array_agg(aggregate_order_by(_mean, _hour.asc())).filter(_hour >= bindparam("recent")).label("trend"),
        (func.sum(ReadingHour.total).filter(_recent) / func.sum(ReadingHour.count).filter(_recent)).label("now"),
        (func.sum(ReadingHour.total).filter(~_recent) / func.sum(ReadingHour.count).filter(~_recent)).label("before"),
    )
    .where(_hour >= bindparam("since"))
    .group_by(ReadingHour.indicator_id)
    .subquery()
)
TILES = Prepared(
    select(
        Indicator.id,
        Indicator.name,
        Indicator.unit,
        Indicator.latest_value,
        Indicator.latest_at,
        Indicator.source_id,
        Indicator.as_of,
        Indicator.stale_because,
        _trends.c.trend,
        ((_trends.c.now - _trends.c.before) / func.nullif(func.abs(_trends.c.before), 0.0)).label("change"),
    )
    .outerjoin(_trends, _trends.c.indicator_id == Indicator.id)
    .where(Indicator.archived_at.is_(None))
    .order_by(*BY_NAME)
    .limit(TILE_LIMIT)
)
VERSION = Prepared(
    select(func.count().label("count"), func.max(Indicator.changed_at).label("changed_at")).where(
        Indicator.archived_at.is_(None)
    )
)


def _buckets(step: Step) -> Prepared:
    at = _hour if step is Step.HOUR else func.date_trunc(step.value, _hour, "UTC")
    return Prepared(
        select(
            at.label("at"),
            func.sum(ReadingHour.count).label("count"),
            (func.sum(ReadingHour.total) / func.sum(ReadingHour.count)).label("mean"),
            func.min(ReadingHour.low).label("low"),
            func.max(ReadingHour.high).label("high"),
        )
        .where(
            ReadingHour.indicator_id == bindparam("indicator_id"),
            _hour >= bindparam("since"),
            _hour < bindparam("until"),
        )
        .group_by(literal_column("1"))
        .order_by(literal_column("1"))
    )


BUCKETS = {step: _buckets(step) for step in Step}
WIDTH = {Step.HOUR: timedelta(hours=1), Step.DAY: timedelta(days=1), Step.WEEK: timedelta(weeks=1)}


@query("indicators.list", requires=Role.VIEWER)
async def list_indicators(ctx: Context, page: PageRequest, *, archived: bool = False) -> Page[IndicatorRead]:
    return await paginate(ctx, ARCHIVED if archived else LIST, page, IndicatorRead)


@query("indicators.search", requires=Role.VIEWER)
async def search_indicators(ctx: Context, words: str, page: PageRequest) -> Page[IndicatorRead]:
    """Indicators whose name or description contains a word beginning with each of the given words."""
    terms = list(dict.fromkeys(re.findall(r"\w+", words.lower())))[:SEARCH_TERMS]
    if not terms:
        return await paginate(ctx, LIST, page, IndicatorRead)
    bounds = {f"from_{n}": term[:100] for n, term in enumerate(terms)}
    bounds |= {f"to_{n}": term[:99] + LAST_CHARACTER for n, term in enumerate(terms)}
    return await paginate(ctx, SEARCH[len(terms)], page, IndicatorRead, **bounds)


@query("indicators.bin", requires=Role.MEMBER)
async def list_deleted_indicators(ctx: Context, page: PageRequest) -> Page[DeletedIndicatorRead]:
    return await paginate(ctx, BIN, page, DeletedIndicatorRead)


@query("indicators.read", requires=Role.VIEWER)
async def get_indicator(ctx: Context, indicator_id: UUID) -> IndicatorRead:
    return IndicatorRead.model_validate(await _one(ctx, indicator_id))


async def _one(ctx: Context, indicator_id: UUID) -> dict[str, Any]:
    row = await ctx.fetch_one(ONE, id=indicator_id)
    if row is None:
        raise NotFound("There is no such indicator.")
    return dict(row)


@query("indicators.readings", requires=Role.VIEWER)
async def list_readings(ctx: Context, indicator_id: UUID, page: PageRequest) -> Readings:
    await get_indicator(ctx, indicator_id)
    return await _readings(ctx, indicator_id, page)


@query("indicators.reading", requires=Role.VIEWER)
async def get_reading(ctx: Context, indicator_id: UUID, at: datetime) -> ReadingRead:
    since, notice = await _horizon(ctx)
    row = await ctx.fetch_one(READING, indicator_id=indicator_id, at=at)
    if row is not None and at < since:
        raise PlanLimit("This reading is older than what your plan shows.", mend=notice)
    if row is None:
        raise NotFound("There is no reading at this moment.")
    return ReadingRead.model_validate(dict(row))


@query("indicators.aggregates", requires=Role.VIEWER)
async def aggregate_readings(
    ctx: Context, indicator_id: UUID, *, since: datetime, until: datetime, step: Step
) -> Aggregates:
    """Mean, lowest and highest per bucket; raises Invalid when the answer would have too many buckets."""
    await get_indicator(ctx, indicator_id)
    return await _aggregates(ctx, indicator_id, since, until, step)


@query("indicators.detail", requires=Role.VIEWER)
async def get_detail(
    ctx: Context, indicator_id: UUID, page: PageRequest, *, since: datetime, until: datetime, step: Step
) -> Detail:
    """What the indicator's page shows, in three statements."""
    row = await _one(ctx, indicator_id)
    chart = await _aggregates(ctx, indicator_id, since, until, step)
    readings = await _readings(ctx, indicator_id, page)
    return Detail(IndicatorRead.model_validate(row), row["source_id"], chart, readings)


async def _readings(ctx: Context, indicator_id: UUID, page: Position) -> Readings:
    reach, notice = await history(ctx)
    found = await paginate(ctx, READINGS, page, ReadingRead, indicator_id=indicator_id, reach=reach)
    return Readings.model_construct(**vars(found), notice=None if found.has_more else notice)


async def _horizon(ctx: Context) -> tuple[datetime, str]:
    """The first moment that the plan shows, and the sentence about it. Whole days: all of the first is shown."""
    reach, notice = await history(ctx)
    return (clock.now() - reach).replace(hour=0, minute=0, second=0, microsecond=0), notice


async def _aggregates(ctx: Context, indicator_id: UUID, since: datetime, until: datetime, step: Step) -> Aggregates:
    if since >= until:
        raise Invalid("The range is empty.", fields={"since": "must be earlier than until"})
    if (until - since) / WIDTH[step] > BUCKET_LIMIT:
        raise Invalid(
            "The range has too many buckets.", fields={"step": f"more than {BUCKET_LIMIT}; choose a wider step"}
        )
    first, notice = await _horizon(ctx)
    rows = await ctx.fetch(BUCKETS[step], indicator_id=indicator_id, since=max(since, first), until=until)
    buckets = [Bucket.model_construct(**row) for row in rows]
    return Aggregates(step=step, buckets=buckets, notice=notice if since < first else None)


@query("indicators.version", requires=Role.VIEWER)
async def dashboard_version(ctx: Context) -> tuple[str, int]:
    """Changes when the dashboard does: the poll's ETag, from one small index range; and how many indicators it has."""
    [row] = await ctx.fetch(VERSION)
    hour = clock.now().replace(minute=0, second=0, microsecond=0)
    changed = row["changed_at"].timestamp() if row["changed_at"] else 0
    return f"{ctx.organization_id}-{row['count']}-{changed:.6f}-{hour:%Y%m%d%H}", row["count"]


@query("indicators.dashboard", requires=Role.VIEWER)
async def get_dashboard(ctx: Context) -> Dashboard:
    now = clock.now()
    rows = await ctx.fetch(TILES, recent=now - TREND, since=now - 2 * TREND)
    tiles = [Tile.model_construct(**{**row, "trend": row["trend"] or []}) for row in rows]
    return Dashboard.model_construct(as_of=now, refresh_seconds=REFRESH_SECONDS, tiles=tiles)
