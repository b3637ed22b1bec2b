"""Asking for a copy, seeing how far it is, and the way to its bytes: a login, a fresh proof, one person."""

from __future__ import annotations

from uuid import UUID

from fastapi import Request, Response
from starlette.responses import RedirectResponse

from service.core.errors import Conflict
from service.features.files.flows import links
from service.features.privacy import actions, queries
from service.features.privacy.pages._shared import router
from service.features.privacy.pages.overview import REFRESH_SECONDS
from service.guardrails.actions import allow, may
from service.guardrails.contexts import Ctx, UserCtx
from service.guardrails.rate_limits import EXPORT, PRIVACY_EXPORT, limit
from service.integrations.storage import Storage
from service.web.flash import flash
from service.web.responses import redirect
from service.web.templating import render

LINK_SECONDS = 60
ASKED = "Your copy is being made. We write to you when it is ready."


@router.post("/privacy/exports")
@limit(PRIVACY_EXPORT)
async def request_export(request: Request, ctx: UserCtx) -> Response:
    try:
        await actions.request_export(ctx)
        flash(request, ASKED)
    except Conflict as error:
        flash(request, f"{error.detail} {error.mend}", "info")
    return redirect(request, "/privacy")


@router.get("/organization/export")
async def show_organization_export(request: Request, ctx: Ctx) -> Response:
    allow(ctx, queries.get_organization_exports)
    return render(
        request,
        "privacy/organization.html",
        fragment="exports",
        exports=await queries.get_organization_exports(ctx),
        here="/organization/export",
        seconds=REFRESH_SECONDS,
        can=may(ctx, actions.request_organization_export),
    )


@router.post("/organization/export")
@limit(EXPORT)
async def request_organization_export(request: Request, ctx: Ctx) -> Response:
    try:
        await actions.request_organization_export(ctx)
        flash(request, ASKED)
    except Conflict as error:
        flash(request, f"{error.detail} {error.mend}", "info")
    return redirect(request, "/organization/export")


@router.get("/downloads/exports/{export_id}")
@limit(PRIVACY_EXPORT)
async def download_export(request: Request, ctx: UserCtx, export_id: UUID) -> Response:
    found = await queries.get_download(ctx, export_id)
    disposition = links.disposition(found.name)
    address = ctx.resources.get(Storage).presign(found.key, seconds=LINK_SECONDS, disposition=disposition)
    if address is not None:
        # To the bucket's host: this one object, for a minute, for whoever has just proved who they are.
        return RedirectResponse(address, status_code=303)
    return links.HandedOut(ctx.resources, links.Link(found.key, found.name, found.size), "application/zip")
