"""The copies that somebody asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, select

from service.core.context import Context
from service.core.errors import NotFound
from service.core.statements import Prepared, context_tenant, context_user
from service.features.privacy.models import DataExport, Scope
from service.features.privacy.schemas import ExportRead
from service.guardrails.actions import query
from service.guardrails.permissions import Role, Who, demand

SHOWN = 5
MINE = Prepared(
    select(DataExport)
    .where(DataExport.user_id == context_user(), DataExport.scope == Scope.PERSON)
    .order_by(DataExport.asked_at.desc(), DataExport.id.desc())
    .limit(SHOWN)
)
OURS = Prepared(
    select(DataExport)
    .where(DataExport.user_id == context_user(), DataExport.organization_id == context_tenant())
    .order_by(DataExport.asked_at.desc(), DataExport.id.desc())
    .limit(SHOWN)
)
ONE = Prepared(select(DataExport).where(DataExport.id == bindparam("id"), DataExport.user_id == context_user()))


@dataclass(frozen=True, slots=True)
class Download:
    """What leads to the archive; only for whoever asked for it."""

    key: str
    name: str
    size: int


@query("privacy.exports", requires=Who.SIGNED_IN, while_impersonated=False)
async def list_exports(ctx: Context) -> list[ExportRead]:
    return [ExportRead.model_validate(dict(row)) for row in await ctx.fetch(MINE)]


@query("privacy.organization_exports", requires=Role.OWNER, while_impersonated=False)
async def get_organization_exports(ctx: Context) -> list[ExportRead]:
    """Those that the acting owner asked for: an archive is one person's."""
    return [ExportRead.model_validate(dict(row)) for row in await ctx.fetch(OURS)]


@query("privacy.download", requires=Who.SIGNED_IN, while_impersonated=False)
async def get_download(ctx: Context, export_id: UUID) -> Download:
    """Raises StepUpRequired, and NotFound for what is not ready, not theirs, or no longer theirs to have."""
    demand(ctx, "privacy.download", Who.SIGNED_IN, step_up=True)
    row = await _mine(ctx, export_id)
    found = ExportRead.model_validate(dict(row))
    if not found.is_ready or not row["key"]:
        raise NotFound("This copy cannot be downloaded any more.", mend="Ask for a new one.")
    name = "ballast-my-data" if found.scope is Scope.PERSON else "ballast-organization"
    ctx.note("privacy.download", "done", export=str(export_id))
    return Download(row["key"], f"{name}-{found.asked_at:%Y-%m-%d}.zip", found.size)


async def _mine(ctx: Context, export_id: UUID) -> dict[str, Any]:
    row = await ctx.fetch_one(ONE, id=export_id)
    # Who left, or is no owner any more, has no claim on the organization's data.
    theirs = row is not None and (
        row["scope"] == Scope.PERSON or (row["organization_id"] == ctx.organization_id and ctx.role == Role.OWNER)
    )
    if row is None or not theirs:
        raise NotFound("There is no such copy.")
    return dict(row)
