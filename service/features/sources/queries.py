"""Reads. No query selects the key: what is not read cannot be shown."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import and_, bindparam, func, select

from service.core.context import Context
from service.core.errors import NotFound
from service.core.statements import Prepared
from service.features.indicators.models import Indicator
from service.features.sources.models import Source, SourceFeed, SourceRun
from service.features.sources.schemas import DeletedSourceRead, FedRead, RunRead, SourceListed, SourceRead
from service.guardrails.actions import query
from service.guardrails.pagination import Keyset, Page, PageRequest, Position, paginate
from service.guardrails.permissions import Role, Who
from service.web.staff_lists import Across, OfOrganization

COLUMNS = (
    Source.id,
    Source.kind,
    Source.target,
    Source.sealed_key.is_not(None).label("keyed"),
    Source.paused_at,
    Source.next_pull_at,
    Source.rest_until,
    Source.failures,
    Source.trouble,
    Source.tried_at,
    Source.ok_at,
)
LIST = Keyset(select(*COLUMNS), order=(Source.id.desc(),))
BIN = Keyset(
    select(Source.id, Source.kind, Source.target, Source.deleted_at).where(Source.deleted_at.is_not(None)),
    order=(Source.id.desc(),),
    include_deleted=True,
)
ONE = Prepared(select(*COLUMNS).where(Source.id == bindparam("id")))
CONFIG = Prepared(select(Source.config).where(Source.id == bindparam("id")))
FED = Prepared(
    select(
        SourceFeed.indicator_id,
        Indicator.name,
        Indicator.unit,
        Indicator.latest_value,
        Indicator.latest_at,
        Indicator.archived_at,
    )
    .outerjoin(Indicator, and_(Indicator.id == SourceFeed.indicator_id, Indicator.source_id == SourceFeed.source_id))
    .where(SourceFeed.source_id == bindparam("source_id"))
    .order_by(SourceFeed.series)
)
RUNS = Keyset(
    select(SourceRun.id, SourceRun.at, SourceRun.outcome, SourceRun.added, SourceRun.took_ms, SourceRun.detail).where(
        SourceRun.source_id == bindparam("source_id")
    ),
    order=(SourceRun.id.desc(),),
)
HOW_MANY = Prepared(select(func.count().label("used")).select_from(Source))

LISTED = Across(Source, SourceListed)


@query("sources.list", requires=Role.VIEWER)
async def list_sources(ctx: Context, page: PageRequest) -> Page[SourceRead]:
    return await paginate(ctx, LIST, page, SourceRead)


@query("sources.bin", requires=Role.ADMIN)
async def list_deleted_sources(ctx: Context, page: PageRequest) -> Page[DeletedSourceRead]:
    return await paginate(ctx, BIN, page, DeletedSourceRead)


@query("sources.read", requires=Role.VIEWER)
async def get_source(ctx: Context, source_id: UUID) -> SourceRead:
    row = await ctx.fetch_one(ONE, id=source_id)
    if row is None:
        raise NotFound("There is no such source.")
    return SourceRead.model_validate(dict(row))


@query("sources.config", requires=Role.ADMIN)
async def get_config(ctx: Context, source_id: UUID) -> dict[str, Any]:
    """What is asked for, without the key: to try another key with it."""
    row = await ctx.fetch_one(CONFIG, id=source_id)
    if row is None:
        raise NotFound("There is no such source.")
    config: dict[str, Any] = row["config"]
    return config


@query("sources.fed", requires=Role.VIEWER)
async def list_fed(ctx: Context, source_id: UUID) -> list[FedRead]:
    """The few indicators that a source feeds."""
    return [FedRead.model_validate(dict(row)) for row in await ctx.fetch(FED, source_id=source_id)]


@query("sources.runs", requires=Role.VIEWER)
async def list_runs(ctx: Context, source_id: UUID, page: PageRequest) -> Page[RunRead]:
    return await paginate(ctx, RUNS, page, RunRead, source_id=source_id)


@query("sources.list_for_staff", requires=Who.STAFF)
async def list_sources_for_staff(ctx: Context, wanted: OfOrganization, page: Position) -> Page[SourceListed]:
    """Of all organizations or of one, newest first."""
    return await LISTED.page(ctx, wanted, page)
