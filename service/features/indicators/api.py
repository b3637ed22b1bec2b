"""JSON under /api/v1/indicators. A handler finds nothing and decides nothing: it calls one query or action."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response, status

from service.features.indicators import actions, queries
from service.features.indicators.models import Indicator, Step
from service.features.indicators.schemas import (
    Aggregates,
    Appended,
    Dashboard,
    DeletedIndicatorRead,
    IndicatorCreate,
    IndicatorRead,
    IndicatorUpdate,
    Moment,
    ReadingCorrection,
    ReadingCreate,
    ReadingRead,
    Readings,
)
from service.features.indicators.schemas.batches import BatchRead, MixedBatch, ReadingBatch
from service.guardrails import preconditions
from service.guardrails.contexts import KeyCtx
from service.guardrails.idempotency import IdempotencyKey, IdempotentRoute
from service.guardrails.pagination import Page, PageRequest
from service.guardrails.preconditions import IfMatch
from service.guardrails.strict_json import large_json

BATCH_BYTES = 2 * 1024 * 1024
"""Ten thousand readings, each with its indicator and a moment to the microsecond, are 1.5 MB."""

router = APIRouter(route_class=IdempotentRoute)

Words = Annotated[str, Query(max_length=200, description="Words, or beginnings of words, in name or description")]


@router.get("")
async def list_indicators(ctx: KeyCtx, page: PageRequest, q: Words = "", archived: bool = False) -> Page[IndicatorRead]:
    if q:
        return await queries.search_indicators(ctx, q, page)
    return await queries.list_indicators(ctx, page, archived=archived)


@router.post("", status_code=status.HTTP_201_CREATED)
async def create_indicator(ctx: KeyCtx, given: IndicatorCreate, key: IdempotencyKey) -> IndicatorRead:
    return _read(await actions.create_indicator(ctx, given))


@router.get("/dashboard")
async def dashboard(ctx: KeyCtx) -> Dashboard:
    return await queries.get_dashboard(ctx)


@router.get("/bin")
async def list_deleted_indicators(ctx: KeyCtx, page: PageRequest) -> Page[DeletedIndicatorRead]:
    return await queries.list_deleted_indicators(ctx, page)


@router.get("/{indicator_id}")
async def get_indicator(ctx: KeyCtx, indicator_id: UUID, response: Response) -> IndicatorRead:
    indicator = await queries.get_indicator(ctx, indicator_id)
    preconditions.show(response, indicator.changed_at)
    return indicator


@router.patch("/{indicator_id}")
async def update_indicator(
    ctx: KeyCtx, indicator_id: UUID, given: IndicatorUpdate, unchanged: IfMatch, response: Response
) -> IndicatorRead:
    indicator = await actions.update_indicator(ctx, indicator_id, given)
    preconditions.show(response, indicator.changed_at)
    return _read(indicator)


@router.delete("/{indicator_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_indicator(ctx: KeyCtx, indicator_id: UUID) -> Response:
    await actions.delete_indicator(ctx, indicator_id)
    return Response(status_code=status.HTTP_204_NO_CONTENT)


@router.post("/{indicator_id}/restoration", status_code=status.HTTP_201_CREATED)
async def restore_indicator(ctx: KeyCtx, indicator_id: UUID, key: IdempotencyKey) -> IndicatorRead:
    return _read(await actions.restore_indicator(ctx, indicator_id))


@router.post("/{indicator_id}/archival", status_code=status.HTTP_201_CREATED)
async def archive_indicator(ctx: KeyCtx, indicator_id: UUID, key: IdempotencyKey) -> IndicatorRead:
    return _read(await actions.archive_indicator(ctx, indicator_id))


@router.delete("/{indicator_id}/archival")
async def unarchive_indicator(ctx: KeyCtx, indicator_id: UUID) -> IndicatorRead:
    return _read(await actions.unarchive_indicator(ctx, indicator_id))


@router.get("/{indicator_id}/readings")
async def list_readings(ctx: KeyCtx, indicator_id: UUID, page: PageRequest) -> Readings:
    return await queries.list_readings(ctx, indicator_id, page)


@router.post("/{indicator_id}/readings", status_code=status.HTTP_201_CREATED)
async def append_reading(ctx: KeyCtx, indicator_id: UUID, given: ReadingCreate, key: IdempotencyKey) -> Appended:
    return await actions.append_reading(ctx, indicator_id, given)


@router.post("/{indicator_id}/readings/batch", status_code=status.HTTP_201_CREATED)
@large_json(BATCH_BYTES)
async def append_batch(ctx: KeyCtx, indicator_id: UUID, given: ReadingBatch, key: IdempotencyKey) -> BatchRead:
    return await actions.append_batch(ctx, indicator_id, given)


@router.post("/readings/batch", status_code=status.HTTP_201_CREATED)
@large_json(BATCH_BYTES)
async def append_mixed_batch(ctx: KeyCtx, given: MixedBatch, key: IdempotencyKey) -> BatchRead:
    return await actions.append_mixed(ctx, given)


@router.get("/{indicator_id}/readings/{at}")
async def get_reading(ctx: KeyCtx, indicator_id: UUID, at: Moment, response: Response) -> ReadingRead:
    reading = await queries.get_reading(ctx, indicator_id, at)
    preconditions.show(response, reading.changed_at)
    return reading


@router.put("/{indicator_id}/readings/{at}")
async def correct_reading(
    ctx: KeyCtx, indicator_id: UUID, at: Moment, given: ReadingCorrection, unchanged: IfMatch, response: Response
) -> ReadingRead:
    indicator = await actions.correct_reading(ctx, indicator_id, at, given.value)
    preconditions.show(response, indicator.changed_at)
    return ReadingRead(at=at, value=given.value, corrected_at=indicator.changed_at)


@router.get("/{indicator_id}/aggregates")
async def aggregate_readings(
    ctx: KeyCtx, indicator_id: UUID, since: Moment, until: Moment, step: Step = Step.DAY
) -> Aggregates:
    return await queries.aggregate_readings(ctx, indicator_id, since=since, until=until, step=step)


def _read(indicator: Indicator) -> IndicatorRead:
    return IndicatorRead.model_validate(indicator)
