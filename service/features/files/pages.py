"""The files' pages: what there is, sending one, what became of it, the way to its bytes."""

from __future__ import annotations

from functools import partial
from uuid import UUID

from fastapi import APIRouter, Request, Response
from starlette.responses import RedirectResponse

from service.core.context import Context
from service.core.multipart import Incoming, arriving
from service.features.files import actions, queries
from service.features.files.flows import intake, links
from service.features.files.flows.names import display_name
from service.features.files.models import FILES, File
from service.guardrails.actions import allow, may
from service.guardrails.contexts import Ctx, PublicCtx
from service.guardrails.entitlements import Feature
from service.guardrails.pagination import PageRequest
from service.guardrails.permissions import Role
from service.guardrails.rate_limits import UPLOAD, limit
from service.guardrails.uploads.policy import accept_upload
from service.integrations.scanner import Scanner
from service.web.flash import flash
from service.web.responses import After, redirect
from service.web.templating import NavItem, render

router = APIRouter()
NAV = [NavItem("Files", "/files", "archive", order=34, requires=Role.VIEWER, group="Data")]


@router.get("/files")
async def list_files(request: Request, ctx: Ctx, page: PageRequest) -> Response:
    found = await queries.list_files(ctx, page)
    held = ctx.entitlements
    return render(
        request,
        "files/list.html",
        fragment="results",
        found=found,
        can=may(ctx, actions.finish_upload),
        used=await queries.get_used(ctx),
        included=held.limits[Feature.FILES_MB] if held else 0,
        policy=FILES,
        scanned=ctx.resources.get(Scanner).enabled,
    )


@router.post("/files")
@limit(UPLOAD)
@accept_upload(FILES)
async def upload_file(request: Request, ctx: Ctx) -> Response:
    allow(ctx, actions.begin_upload)
    incoming = await arriving(request)
    file = await actions.begin_upload(ctx, display_name(incoming.name), incoming.declared)
    return After(partial(_receive, request, ctx, file, incoming))


async def _receive(request: Request, ctx: Context, file: File, incoming: Incoming) -> Response:
    await intake.receive(ctx, file.id, file.key, file.kind, incoming)
    flash(request, f"“{file.name}” has arrived and is being checked.", "success")
    return redirect(request, "/files")


@router.get("/files/bin")
async def show_bin(request: Request, ctx: Ctx, page: PageRequest) -> Response:
    found, used = await queries.list_deleted_files(ctx, page), await queries.get_used(ctx)
    return render(request, "files/bin.html", found=found, used=used, can=may(ctx, actions.discard_file))


@router.get("/files/{file_id}")
async def show_file(request: Request, ctx: Ctx, file_id: UUID) -> Response:
    file = await queries.get_file(ctx, file_id)
    return render(request, "files/file.html", file=file, can=may(ctx, actions.delete_file))


@router.get("/files/{file_id}/download")
async def download_file(request: Request, ctx: Ctx, file_id: UUID) -> Response:
    file = await queries.get_download(ctx, file_id)
    # To another host, when the bucket serves: `redirect` would rightly refuse that for anything but a link of ours.
    return RedirectResponse(links.make_link(ctx.resources, *file).url, status_code=303)


@router.get("/downloads/{link}")
async def hand_out(request: Request, ctx: PublicCtx, link: str) -> Response:
    return links.HandedOut(ctx.resources, links.read_link(link))


@router.post("/files/{file_id}/delete")
async def delete_file(request: Request, ctx: Ctx, file_id: UUID) -> Response:
    file = await actions.delete_file(ctx, file_id)
    flash(request, f"“{file.name}” is in the bin for 30 days.", "success")
    return redirect(request, "/files/bin")


@router.post("/files/{file_id}/restore")
async def restore_file(request: Request, ctx: Ctx, file_id: UUID) -> Response:
    file = await actions.restore_file(ctx, file_id)
    flash(request, f"“{file.name}” is back.", "success")
    return redirect(request, f"/files/{file.id}")


@router.post("/files/{file_id}/discard")
async def discard_file(request: Request, ctx: Ctx, file_id: UUID) -> Response:
    file = await actions.discard_file(ctx, file_id)
    flash(request, f"“{file.name}” is deleted for good.", "success")
    return redirect(request, "/files/bin")
