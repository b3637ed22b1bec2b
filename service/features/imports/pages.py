"""The imports' pages: the list, the form, one import with its progress and verdicts, and readings as files."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from functools import partial
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from service.core.errors import Conflict, Invalid, NotFound, Unavailable, UnsupportedMedia
from service.core.multipart import arriving
from service.features.files.flows.names import display_name
from service.features.imports import actions, queries
from service.features.imports.flows.export import readings_csv
from service.features.imports.flows.receive import receive
from service.features.imports.flows.verdicts import hand_out
from service.features.imports.models import KEPT_DAYS, DecimalMark, Import, Mode
from service.features.imports.schemas import ImportForm, zones
from service.guardrails.actions import allow, may
from service.guardrails.contexts import Ctx
from service.guardrails.pagination import PageRequest
from service.guardrails.permissions import Role
from service.guardrails.rate_limits import EXPORT, SERIES, UPLOAD, limit
from service.guardrails.uploads.policy import Kind, UploadPolicy, accept_upload
from service.integrations.storage import StorageAway
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import After, redirect
from service.web.templating import NavItem, render

router = APIRouter()

TEXT = Kind("CSV table", "text/csv")
READINGS = UploadPolicy("readings", {"csv": TEXT, "txt": TEXT}, most_bytes=200_000_000, seconds=600)
"""A million readings are some 30 MB. Ten minutes: a slow line is no reason to refuse them."""
DEFAULTS = {"zone": "UTC", "decimal": DecimalMark.POINT.value, "mode": Mode.ALL.value}

NAV = [NavItem("Imports", "/imports", "list", order=32, requires=Role.VIEWER, group="Data")]


@router.get("/imports")
async def list_imports(request: Request, ctx: Ctx, page: PageRequest) -> Response:
    found = await queries.list_imports(ctx, page)
    return render(request, "imports/list.html", found=found, can=may(ctx, actions.begin_import), kept_days=KEPT_DAYS)


@router.get("/imports/new")
async def new_import(request: Request, ctx: Ctx, indicator: UUID | None = None) -> Response:
    allow(ctx, actions.begin_import)
    return await _show_form(request, ctx, Form(ImportForm, {**DEFAULTS, "indicator": indicator}))


@router.post("/imports/new")
@limit(UPLOAD)
@accept_upload(READINGS)
async def upload_file(request: Request, ctx: Ctx) -> Response:
    """The row first, then the file: its bytes come in after the transaction, straight into the store."""
    allow(ctx, actions.begin_import)
    incoming = await arriving(request)
    form = Form.sent(ImportForm, request, list(incoming.fields.items()))
    if form.valid:
        try:
            check = partial(READINGS.check_beginning, READINGS.kind_of(incoming.name))
            begun = await actions.begin_import(ctx, form.data, display_name(incoming.name))
        except (Conflict, Invalid, NotFound, UnsupportedMedia) as error:
            form.refuse(error)
        else:
            return After(partial(_receive, request, ctx, begun, incoming.parts(check)))
    return await _show_form(request, ctx, form)


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
    body = hand_out(ctx.resources, ctx.tenant, import_id, found.state, found.added)
    return _attachment(body, f"verdicts-{found.name.rpartition('.')[0]}")


@router.get("/downloads/readings")
@limit(EXPORT)
async def export_everything(request: Request, ctx: Ctx) -> Response:
    wanted = await queries.allow_export(ctx, None)
    return _attachment(readings_csv(ctx.resources, ctx.tenant, wanted), "readings")


@router.get("/downloads/readings/{indicator_id}")
@limit(SERIES)
async def export_indicator(request: Request, ctx: Ctx, indicator_id: UUID) -> Response:
    wanted = await queries.allow_export(ctx, indicator_id)
    return _attachment(readings_csv(ctx.resources, ctx.tenant, wanted), f"readings-{wanted.name}")


async def _receive(request: Request, ctx: Ctx, begun: Import, parts: AsyncIterator[bytes]) -> Response:
    try:
        await receive(ctx, begun, parts)
    except StorageAway as error:
        raise Unavailable("The store of files does not answer.", mend="Upload the file again later.") from error
    return redirect(request, f"/imports/{begun.id}")


async def _show_form(request: Request, ctx: Ctx, form: Form[ImportForm]) -> Response:
    choices = await queries.list_choices(ctx)
    return render(
        request,
        "imports/new.html",
        form=form,
        indicators=[("", "The indicators named in the file"), *choices],
        zones=zones(),
        marks=[(DecimalMark.POINT.value, "Point: 1234.5"), (DecimalMark.COMMA.value, "Comma: 1234,5")],
        modes=[(Mode.ALL.value, "Store nothing until all are right"), (Mode.GOOD.value, "Store the others")],
        megabytes=READINGS.most_bytes // 1_000_000,
    )


def _attachment(body: AsyncIterator[str], name: str) -> Response:
    plain = re.sub(r"[^A-Za-z0-9]+", "-", name)[:60].strip("-")
    headers = {"Content-Disposition": f'attachment; filename="{plain}.csv"'}
    return StreamingResponse(body, media_type="text/csv; charset=utf-8", headers=headers)
