"""Reads: the list of imports, and one with how far it has come."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import bindparam, func, select, tuple_
from sqlalchemy.orm import aliased

from service.core import clock
from service.core.context import Context
from service.core.errors import Invalid, NotFound
from service.core.statements import Prepared
from service.features.imports.models import Import, ImportVerdict, State
from service.features.imports.schemas import ImportListed, ImportRead, Refusal
from service.features.indicators.models import Indicator, Reading
from service.features.indicators.queries import get_indicator
from service.guardrails.actions import query
from service.guardrails.entitlements import history
from service.guardrails.pagination import Keyset, Page, PageRequest, Position, paginate
from service.guardrails.permissions import Role, Who
from service.web.staff_lists import Across, OfOrganization

REFRESH_SECONDS = 2
CHOICES = 500
SHOWN = 10
MOST_EXPORTED = 250_000
"""Readings in the file of a whole organization; one indicator's has no limit."""

_earlier = aliased(Import)
_ahead = (
    select(func.count())
    .where(_earlier.object_key.is_not(None), _earlier.id < Import.id, Import.object_key.is_not(None))
    .where(_earlier.state != State.ARRIVING)
    .scalar_subquery()
)
_read = select(
    Import.id,
    Import.created_at,
    Import.name,
    Import.size,
    Import.indicator_id,
    Indicator.name.label("indicator"),
    Import.mode,
    Import.state,
    Import.remark,
    Import.position,
    Import.rows,
    Import.added,
    Import.unchanged,
    Import.refused,
    Import.cancelled_at,
    Import.finished_at,
    _ahead.label("ahead"),
).outerjoin(Indicator, Indicator.id == Import.indicator_id)
_exported = (
    select(Reading.indicator_id, Indicator.name, Reading.at, Reading.value)
    .join(Indicator, Indicator.id == Reading.indicator_id)
    .where(Indicator.archived_at.is_(None), Reading.at >= bindparam("since"))
)
WHOLE = Prepared(
    _exported.where(tuple_(Reading.indicator_id, Reading.at) > tuple_(bindparam("indicator_id"), bindparam("after")))
    .order_by(Reading.indicator_id, Reading.at)
    .limit(bindparam("most"))
)
OF_ONE = Prepared(
    select(Reading.indicator_id, Reading.at, Reading.value)
    .where(Reading.indicator_id == bindparam("indicator_id"), Reading.at > bindparam("after"))
    .order_by(Reading.at)
    .limit(bindparam("most"))
)
_some = _exported.limit(bindparam("most")).subquery()
HOW_MANY = Prepared(select(func.count().label("readings")).select_from(_some))
LIST = Keyset(_read, order=(Import.id.desc(),))
ONE = Prepared(_read.where(Import.id == bindparam("id")))
BAD = Prepared(
    select(ImportVerdict.report)
    .where(ImportVerdict.import_id == bindparam("import_id"), ImportVerdict.refused > 0)
    .order_by(ImportVerdict.number)
    .limit(SHOWN)
)
TAKING = Prepared(
    select(Indicator.id, Indicator.name)
    .where(Indicator.archived_at.is_(None))
    .order_by(Indicator.name, Indicator.id)
    .limit(CHOICES)
)

LISTED = Across(Import, ImportListed)


@query("imports.list", requires=Role.VIEWER)
async def list_imports(ctx: Context, page: PageRequest) -> Page[ImportRead]:
    return await paginate(ctx, LIST, page, ImportRead)


@query("imports.read", requires=Role.VIEWER)
async def get_import(ctx: Context, import_id: UUID) -> ImportRead:
    row = await ctx.fetch_one(ONE, id=import_id)
    if row is None:
        raise NotFound("There is no such import.")
    return ImportRead.model_validate(dict(row))


@query("imports.refusals", requires=Role.VIEWER)
async def list_refusals(ctx: Context, import_id: UUID) -> list[Refusal]:
    """The first SHOWN rows that were refused."""
    found = []
    for row in await ctx.fetch(BAD, import_id=import_id):
        for line, verdict, reason in csv.reader(row["report"].splitlines()):
            if verdict == "refused":
                found.append(Refusal(row=int(line), reason=reason))
    return found[:SHOWN]


@query("imports.choices", requires=Role.MEMBER)
async def list_choices(ctx: Context) -> list[tuple[str, str]]:
    """The indicators that take readings, as (id, name), the first CHOICES by name."""
    return [(str(row["id"]), row["name"]) for row in await ctx.fetch(TAKING)]


@dataclass(frozen=True, slots=True)
class Exported:
    """What a file of readings holds: one indicator's or those of all not archived, as far back as the plan shows."""

    indicator_id: UUID | None
    name: str
    since: datetime


@query("imports.export", requires=Role.VIEWER, while_impersonated=False)
async def allow_export(ctx: Context, indicator_id: UUID | None) -> Exported:
    """Raises NotFound, and Invalid for a whole organization that is too large for one file."""
    reach, _ = await history(ctx)
    since = (clock.now() - reach).replace(hour=0, minute=0, second=0, microsecond=0)
    if indicator_id is not None:
        return Exported(indicator_id, (await get_indicator(ctx, indicator_id)).name, since)
    row = await ctx.fetch_one(HOW_MANY, since=since, most=MOST_EXPORTED + 1)
    if row and row["readings"] > MOST_EXPORTED:
        raise Invalid(
            f"The organization has more than {MOST_EXPORTED:,} readings, too many for one file.",
            mend="Export the indicators one by one, from their pages.",
        )
    return Exported(None, "all", since)


@query("imports.list_for_staff", requires=Who.STAFF)
async def list_imports_for_staff(ctx: Context, wanted: OfOrganization, page: Position) -> Page[ImportListed]:
    """Of all organizations or of one, newest first."""
    return await LISTED.page(ctx, wanted, page)
