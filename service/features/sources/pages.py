"""Pages of the sources: the list, connecting one (tried before it is saved), one source with its history, the bin."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response

from service.core.errors import Conflict, ServiceError
from service.features.sources import actions, queries
from service.features.sources.flows.attempt import attempt, in_my_name
from service.features.sources.models import Kind
from service.features.sources.schemas import ABOUT, FORMS, KeyForm
from service.guardrails.actions import allow, may
from service.guardrails.contexts import Ctx
from service.guardrails.pagination import PageRequest
from service.guardrails.permissions import Role
from service.guardrails.rate_limits import SOURCE_TRY, limit
from service.integrations.sources.base import SourceFailed, WrongKey
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import After, redirect
from service.web.templating import NavItem, render

router = APIRouter()

NAV = [NavItem("Sources", "/sources", "plug", order=30, requires=Role.VIEWER, group="Data")]


@router.get("/sources")
async def list_sources(request: Request, ctx: Ctx, page: PageRequest) -> Response:
    found = await queries.list_sources(ctx, page)
    return render(request, "sources/list.html", found=found, can=may(ctx, actions.connect_source))


@router.get("/sources/new")
async def choose_kind(request: Request, ctx: Ctx) -> Response:
    allow(ctx, actions.connect_source)
    return render(request, "sources/choose.html", about=ABOUT)


@router.get("/sources/bin")
async def show_bin(request: Request, ctx: Ctx, page: PageRequest) -> Response:
    return render(request, "sources/bin.html", found=await queries.list_deleted_sources(ctx, page))


@router.get("/sources/new/{system}")
async def new_source(request: Request, ctx: Ctx, system: Kind) -> Response:
    allow(ctx, actions.connect_source)
    return _connect_page(request, system, Form(FORMS[system], {"base": "EUR"}))


@router.post("/sources/new/{system}")
@limit(SOURCE_TRY)
async def connect_source(request: Request, ctx: Ctx, system: Kind) -> Response:
    """Asks the other side once, with nothing open, and saves what has answered."""
    allow(ctx, actions.connect_source)
    form = await Form.parse(FORMS[system], request)
    if not form.valid:
        return _connect_page(request, system, form)
    wish, resources = form.data.wish(), ctx.resources

    async def work() -> Response:
        try:
            await attempt(resources, wish.kind, wish.config, wish.key)
            async with in_my_name(ctx) as mine:
                source = await actions.connect_source(mine, wish)
        except SourceFailed as failure:
            form.add_error("key" if isinstance(failure, WrongKey) else "", str(failure))
        except ServiceError as error:
            form.refuse(error)
        else:
            flash(request, f"{source.target} is connected. Its first readings arrive in a moment.", "success")
            return redirect(request, f"/sources/{source.id}")
        return _connect_page(request, system, form)

    return After(work)


@router.get("/sources/{source_id}")
async def show_source(request: Request, ctx: Ctx, source_id: UUID, page: PageRequest) -> Response:
    return render(
        request,
        "sources/detail.html",
        source=await queries.get_source(ctx, source_id),
        fed=await queries.list_fed(ctx, source_id),
        runs=await queries.list_runs(ctx, source_id, page),
        can=may(ctx, actions.pause_source),
        can_manage=may(ctx, actions.change_key),
    )


@router.get("/sources/{source_id}/key")
async def edit_key(request: Request, ctx: Ctx, source_id: UUID) -> Response:
    allow(ctx, actions.change_key)
    source = await queries.get_source(ctx, source_id)
    return render(request, "sources/key.html", source=source, form=Form(KeyForm))


@router.post("/sources/{source_id}/key")
@limit(SOURCE_TRY)
async def change_key(request: Request, ctx: Ctx, source_id: UUID) -> Response:
    allow(ctx, actions.change_key)
    source, form = await queries.get_source(ctx, source_id), await Form.parse(KeyForm, request)
    if not form.valid:
        return render(request, "sources/key.html", source=source, form=form)
    config, key, resources = await queries.get_config(ctx, source_id), form.data.key.get_secret_value(), ctx.resources

    async def work() -> Response:
        try:
            await attempt(resources, source.kind, config, key)
            async with in_my_name(ctx) as mine:
                await actions.change_key(mine, source_id, key)
        except SourceFailed as failure:
            form.add_error("key", str(failure))
        except ServiceError as error:
            form.refuse(error)
        else:
            flash(request, "The key works and is saved." if key else "Saved, without a key.", "success")
            return redirect(request, f"/sources/{source_id}")
        return render(request, "sources/key.html", source=source, form=form)

    return After(work)


@router.post("/sources/{source_id}/pull")
@limit(SOURCE_TRY)
async def pull_now(request: Request, ctx: Ctx, source_id: UUID) -> Response:
    try:
        await actions.pull_now(ctx, source_id)
    except Conflict as error:
        flash(request, f"{error.detail} {error.mend}", "warning")
    else:
        flash(request, "It is being asked. Reload in a moment to see what came of it.", "success")
    return redirect(request, f"/sources/{source_id}")


@router.post("/sources/{source_id}/pause")
async def pause_source(request: Request, ctx: Ctx, source_id: UUID) -> Response:
    await actions.pause_source(ctx, source_id)
    flash(request, "Paused. Its indicators keep what they have.", "success")
    return redirect(request, f"/sources/{source_id}")


@router.post("/sources/{source_id}/resume")
@limit(SOURCE_TRY)
async def resume_source(request: Request, ctx: Ctx, source_id: UUID) -> Response:
    await actions.resume_source(ctx, source_id)
    flash(request, "Resumed. What was missed is fetched where the other side has it.", "success")
    return redirect(request, f"/sources/{source_id}")


@router.post("/sources/{source_id}/delete")
async def delete_source(request: Request, ctx: Ctx, source_id: UUID) -> Response:
    source = await actions.delete_source(ctx, source_id)
    flash(request, f"{source.target} is in the bin for 30 days. Its indicators stay, with all readings.", "success")
    return redirect(request, "/sources/bin")


@router.post("/sources/{source_id}/restore")
async def restore_source(request: Request, ctx: Ctx, source_id: UUID) -> Response:
    source = await actions.restore_source(ctx, source_id)
    flash(request, f"{source.target} is back.", "success")
    return redirect(request, f"/sources/{source.id}")


def _connect_page(request: Request, kind: Kind, form: Form[Any]) -> Response:
    return render(request, "sources/connect.html", kind=kind, about=ABOUT[kind], form=form)
