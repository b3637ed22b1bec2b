"""Feature flags: what each does and until when, who was turned, and turning one organization."""

from __future__ import annotations

from fastapi import Request, Response

from service.core.context import Context
from service.features.admin import actions, queries
from service.features.admin.pages._shared import HOME, REFUSALS, router
from service.features.admin.schemas import FlagChange
from service.guardrails.contexts import StaffCtx
from service.guardrails.feature_flags import FLAGS as DECLARED
from service.guardrails.pagination import PageRequest, Position
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import redirect
from service.web.templating import render

FLAGS = f"{HOME}/flags"


@router.get("/staff/flags")
async def show_flags(request: Request, ctx: StaffCtx, page: PageRequest) -> Response:
    """`?organization=` is filled in: other pages of staff link here."""
    asked = {"organization": request.query_params.get("organization", "")[:36]}
    return await _page(request, ctx, Form(FlagChange, asked), page)


@router.post("/staff/flags")
async def turn_flag(request: Request, ctx: StaffCtx) -> Response:
    form = await Form.parse(FlagChange, request)
    if form.valid:
        try:
            await actions.turn_flag(ctx, form.data)
        except REFUSALS as error:
            form.refuse(error)
        else:
            flash(request, "Turned; everywhere within five seconds. The organization's log says so, too.")
            return redirect(request, f"{FLAGS}?organization={form.data.organization}")
    return await _page(request, ctx, form, Position())


async def _page(request: Request, ctx: Context, form: Form[FlagChange], page: Position) -> Response:
    turned = await queries.list_flags(ctx, page)
    ways = [("on", "On"), ("off", "Off"), ("default", "Back to the default")]
    return render(request, "admin/flags.html", declared=DECLARED, turned=turned, form=form, ways=ways)
