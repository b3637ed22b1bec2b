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

Words = Annotated[
    str,
    Query(max_length=200, description="Words, or beginnings of words, in name or description", examples=["sign"]),
]
Archived = Annotated[bool, Query(description="The archived ones instead of the active ones")]
Since = Annotated[Moment, Query(description="The first moment of the range", examples=["2026-03-01T00:00:00Z"])]
Until = Annotated[Moment, Query(description="The first moment after the range", examples=["2026-04-01T00:00:00Z"])]
Width = Annotated[Step, Query(description="How wide each bucket is; days and weeks begin at midnight UTC")]
CREATED = status.HTTP_201_CREATED


@router.get("")
async def list_indicators(
    ctx: KeyCtx, page: PageRequest, q: Words = "", archived: Archived = False
) -> Page[IndicatorRead]:
    """The organization's indicators by name, a page at a time; with `q` those whose words begin like that."""
    if q:
        return await queries.search_indicators(ctx, q, page)
    return await queries.list_indicators(ctx, page, archived=archived)


@router.post("", status_code=CREATED)
async def create_indicator(
    ctx: KeyCtx, given: IndicatorCreate, key: IdempotencyKey, response: Response
) -> IndicatorRead:
    """A new indicator, without readings. Its name must be free, whatever its case; the plan says how many may be."""
    return _read(response, await actions.create_indicator(ctx, given))


@router.get("/dashboard")
async def get_dashboard(ctx: KeyCtx) -> Dashboard:
    """What the dashboard shows: the latest value of up to 60 indicators, and their last 48 hours."""
    return await queries.get_dashboard(ctx)


@router.get("/bin")
async def list_deleted_indicators(ctx: KeyCtx, page: PageRequest) -> Page[DeletedIndicatorRead]:
    """Deleted in the last 30 days, the latest first; each can be restored with its readings."""
    return await queries.list_deleted_indicators(ctx, page)


@router.get("/{indicator_id}")
async def get_indicator(ctx: KeyCtx, indicator_id: UUID, response: Response) -> IndicatorRead:
    """One indicator with its latest reading. Its `ETag` is what `If-Match` takes."""
    return _read(response, await queries.get_indicator(ctx, indicator_id))


@router.patch("/{indicator_id}")
async def update_indicator(
    ctx: KeyCtx, indicator_id: UUID, given: IndicatorUpdate, unchanged: IfMatch, response: Response
) -> IndicatorRead:
    """Change what is sent and leave the rest. With `If-Match`, only if nobody changed it since you have read it."""
    return _read(response, await actions.update_indicator(ctx, indicator_id, given))


@router.delete("/{indicator_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_indicator(ctx: KeyCtx, indicator_id: UUID, unchanged: IfMatch) -> Response:
    """Move it to the bin with its readings, where it stays for 30 days. With `If-Match`, only as you have read it."""
    await actions.delete_indicator(ctx, indicator_id)
    return Response(status_code=status.HTTP_204_NO_CONTENT)


@router.post("/{indicator_id}/restoration", status_code=CREATED)
async def restore_indicator(ctx: KeyCtx, indicator_id: UUID, key: IdempotencyKey, response: Response) -> IndicatorRead:
    """Bring it back from the bin, as it was."""
    return _read(response, await actions.restore_indicator(ctx, indicator_id))


@router.post("/{indicator_id}/archival", status_code=CREATED)
async def archive_indicator(ctx: KeyCtx, indicator_id: UUID, key: IdempotencyKey, response: Response) -> IndicatorRead:
    """Take it off the dashboard; it keeps its readings and takes no more."""
    return _read(response, await actions.archive_indicator(ctx, indicator_id))


@router.delete("/{indicator_id}/archival")
async def unarchive_indicator(ctx: KeyCtx, indicator_id: UUID, response: Response) -> IndicatorRead:
    """Bring it back from the archive; it takes readings again."""
    return _read(response, await actions.unarchive_indicator(ctx, indicator_id))


@router.get("/{indicator_id}/readings")
async def list_readings(ctx: KeyCtx, indicator_id: UUID, page: PageRequest) -> Readings:
    """Its readings, the latest first, as far back as the plan shows them."""
    return await queries.list_readings(ctx, indicator_id, page)


@router.post("/{indicator_id}/readings", status_code=CREATED)
async def append_reading(ctx: KeyCtx, indicator_id: UUID, given: ReadingCreate, key: IdempotencyKey) -> Appended:
    """One reading. The same one again changes nothing; another value at the same moment is refused (409)."""
    return await actions.append_reading(ctx, indicator_id, given)


@router.post("/{indicator_id}/readings/batch", status_code=CREATED)
@large_json(BATCH_BYTES)
async def append_batch(ctx: KeyCtx, indicator_id: UUID, given: ReadingBatch, key: IdempotencyKey) -> BatchRead:
    """Up to 10,000 readings of one indicator, with a verdict on each.

    One bad reading refuses the batch, and the problem names it by its index; with `skip_bad` the good ones are stored
    and the answer names the bad ones. Either way nothing is half stored without saying so.
    """
    return await actions.append_batch(ctx, indicator_id, given)


@router.post("/readings/batch", status_code=CREATED)
@large_json(BATCH_BYTES)
async def append_mixed_batch(ctx: KeyCtx, given: MixedBatch, key: IdempotencyKey) -> BatchRead:
    """Up to 10,000 readings of several indicators, each naming its own; the rules are those of a batch of one."""
    return await actions.append_mixed(ctx, given)


@router.get("/{indicator_id}/readings/{at}")
async def get_reading(ctx: KeyCtx, indicator_id: UUID, at: Moment, response: Response) -> ReadingRead:
    """One reading, by its moment. Its `ETag` is what `If-Match` takes."""
    reading = await queries.get_reading(ctx, indicator_id, at)
    preconditions.show(response, reading.changed_at)
    return reading


@router.put("/{indicator_id}/readings/{at}")
async def correct_reading(
    ctx: KeyCtx, indicator_id: UUID, at: Moment, given: ReadingCorrection, unchanged: IfMatch, response: Response
) -> ReadingRead:
    """Another value for a reading that is there already; the aggregates follow."""
    indicator = await actions.correct_reading(ctx, indicator_id, at, given.value)
    preconditions.show(response, indicator.changed_at)
    return ReadingRead(at=at, value=given.value, corrected_at=indicator.changed_at)


@router.get("/{indicator_id}/aggregates")
async def aggregate_readings(
    ctx: KeyCtx, indicator_id: UUID, since: Since, until: Until, step: Width = Step.DAY
) -> Aggregates:
    """Number, mean, lowest and highest reading per hour, day or week, all in one answer."""
    return await queries.aggregate_readings(ctx, indicator_id, since=since, until=until, step=step)


def _read(response: Response, indicator: Indicator | IndicatorRead) -> IndicatorRead:
    shown = IndicatorRead.model_validate(indicator)
    preconditions.show(response, shown.changed_at)
    return shown
