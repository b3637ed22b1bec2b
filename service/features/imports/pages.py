"""The imports' pages: the list, one import with its progress and verdicts, and readings as files."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from service.core.context import Context
from service.features.imports import actions, queries
from service.features.imports.flows.export import readings_csv
from service.features.imports.flows.verdicts import hand_out
from service.features.imports.models import KEPT_DAYS
from service.guardrails.actions import may
from service.guardrails.contexts import Ctx
from service.guardrails.pagination import PageRequest
from service.guardrails.permissions import Role
from service.guardrails.rate_limits import EXPORT, SERIES, limit
from service.web.flash import flash
from service.web.responses import redirect
from service.web.templating import NavItem, render

router = APIRouter()

NAV = [NavItem("Imports", "/imports", "list", order=30, requires=Role.VIEWER)]


@router.get("/imports")
async def list_imports(request: Request, ctx: Ctx, page: PageRequest) -> Response:
    found = await queries.list_imports(ctx, page)
    return render(request, "imports/list.html", found=found, kept_days=KEPT_DAYS)


@router.get("/imports/{import_id}")
async def show_import(request: Request, ctx: Ctx, import_id: UUID) -> Response:
    """The poll asks here too, until the import has ended."""
    found = await queries.get_import(ctx, import_id)
    refusals = await queries.list_refusals(ctx, import_id)
    return render(
        request,
        "imports/detail.html",
        fragment="progress",
        found=found,
        refusals=refusals,
        seconds=queries.REFRESH_SECONDS,
        can=may(ctx, actions.cancel_import),
    )


@router.post("/imports/{import_id}/cancel")
async def cancel_import(request: Request, ctx: Ctx, import_id: UUID) -> Response:
    await actions.cancel_import(ctx, import_id)
    flash(request, "The import stops in a moment.", "success")
    return redirect(request, f"/imports/{import_id}")


@router.get("/downloads/verdicts/{import_id}")
async def download_verdicts(request: Request, ctx: Ctx, import_id: UUID) -> Response:
    found = await queries.get_import(ctx, import_id)
    body = hand_out(ctx.resources, _organization(ctx), import_id, found.state)
    return _attachment(body, f"verdicts-{found.name.rpartition('.')[0]}")


@router.get("/downloads/readings")
@limit(EXPORT)
async def export_everything(request: Request, ctx: Ctx) -> Response:
    wanted = await queries.allow_export(ctx, None)
    return _attachment(readings_csv(ctx.resources, _organization(ctx), wanted), "readings")


@router.get("/downloads/readings/{indicator_id}")
@limit(SERIES)
async def export_indicator(request: Request, ctx: Ctx, indicator_id: UUID) -> Response:
    wanted = await queries.allow_export(ctx, indicator_id)
    return _attachment(readings_csv(ctx.resources, _organization(ctx), wanted), f"readings-{wanted.name}")


def _attachment(body: AsyncIterator[str], name: str) -> Response:
    plain = re.sub(r"[^A-Za-z0-9]+", "-", name)[:60].strip("-")
    headers = {"Content-Disposition": f'attachment; filename="{plain}.csv"'}
    return StreamingResponse(body, media_type="text/csv; charset=utf-8", headers=headers)


def _organization(ctx: Context) -> UUID:
    assert ctx.organization_id is not None  # noqa: S101 - the route's context has one
    return ctx.organization_id
