"""Reads: one's own request, and for staff every request with its evidence."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import bindparam, select

from service.core.context import Context
from service.core.database import Base
from service.core.errors import NotFound
from service.core.statements import Prepared, context_user
from service.features.erasure.models import ErasureRequest, ErasureStep
from service.features.erasure.schemas import STEPS, Kept, LetterRead, RequestRead, RequestView, StepRead
from service.guardrails.actions import query
from service.guardrails.pagination import Page, Position
from service.guardrails.permissions import Who
from service.guardrails.personal_data import CATEGORIES, Erasure, privacy_of
from service.web.staff_lists import OfPerson, People

_columns = (
    ErasureRequest.id,
    ErasureRequest.user_id,
    ErasureRequest.state,
    ErasureRequest.source,
    ErasureRequest.requested_at,
    ErasureRequest.requested_by,
    ErasureRequest.due_at,
    ErasureRequest.finished_at,
    ErasureRequest.held,
)
MINE = Prepared(
    select(*_columns).where(ErasureRequest.user_id == context_user(), ErasureRequest.finished_at.is_(None)).limit(1)
)
REQUESTS = People(select(*_columns), RequestRead, person=ErasureRequest.user_id, key=ErasureRequest.id)
ONE = Prepared(select(*_columns, ErasureRequest.reason).where(ErasureRequest.id == bindparam("id")))
STEPS_OF = Prepared(
    select(ErasureStep.name, ErasureStep.done_at, ErasureStep.evidence).where(ErasureStep.request_id == bindparam("id"))
)


@query("erasure.get_mine", requires=Who.SIGNED_IN)
async def get_mine(ctx: Context) -> RequestRead | None:
    """The asking person's open request."""
    row = await ctx.fetch_one(MINE)
    return RequestRead.model_validate(dict(row)) if row else None


@query("erasure.list_kept", requires=Who.SIGNED_IN)
async def list_kept(ctx: Context) -> list[Kept]:
    """What outlives a person, read off the map, each with its reason."""
    found: dict[str, dict[str, None]] = {}
    for table in Base.metadata.sorted_tables:
        for column in table.columns:
            held = privacy_of(column)
            if held is not None and held.erasure is Erasure.KEEP and CATEGORIES[held.category].is_personal:
                found.setdefault(held.because, {})[table.name.replace("_", " ")] = None
    return [Kept(", ".join(tables), because) for because, tables in found.items()]


@query("erasure.list", requires=Who.STAFF)
async def list_requests(ctx: Context, wanted: OfPerson, page: Position) -> Page[RequestRead]:
    """Everybody's or one person's; ids only."""
    return await REQUESTS.page(ctx, wanted, page)


@query("erasure.get", requires=Who.STAFF)
async def get_request(ctx: Context, request_id: UUID) -> RequestView:
    """One request, and each step with its evidence."""
    row = await ctx.fetch_one(ONE, id=request_id)
    if row is None:
        raise NotFound("There is no such request.", mend="It may be older than three years.")
    done = {step["name"]: step for step in await ctx.fetch(STEPS_OF, id=request_id)}
    steps = [
        StepRead(name, sentence, step["done_at"], step["evidence"]) if (step := done.get(name)) is not None
        else StepRead(name, sentence, None, {})
        for name, sentence in STEPS.items()
    ]  # fmt: skip
    found = LetterRead.model_validate(dict(row))
    return RequestView(found, steps, mine=found.requested_by == ctx.user_id)
