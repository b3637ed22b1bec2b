"""The staff panel: switches, dead letters, invariants."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from service.core.errors import Conflict, Invalid
from service.features.admin import actions, queries
from service.features.admin.schemas import MEANING, SwitchChange
from service.guardrails.contexts import StaffCtx
from service.guardrails.permissions import Who
from service.guardrails.switches import Switch
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import redirect
from service.web.templating import NavItem, render

router = APIRouter()

JobId = Annotated[int, Path(ge=1, lt=2**31)]

NAV = [NavItem("Staff", "/staff", "settings", order=200, requires=Who.STAFF, group="Operations")]


@router.get("/staff")
async def show_panel(request: Request, ctx: StaffCtx) -> Response:
    return await _panel(request, ctx)


@router.post("/staff/switches/{switch}")
async def turn_switch(request: Request, ctx: StaffCtx, switch: Switch) -> Response:
    form = await Form.parse(SwitchChange, request, prefix=switch.value)
    if form.valid:
        try:
            state = await actions.turn_switch(ctx, switch, on=form.data.on, reason=form.data.reason)
        except Invalid as error:
            form.refuse(error)
        else:
            title, _ = MEANING[switch]
            flash(request, f"“{title}” is now {'on' if state.is_on else 'off'}; everywhere within two seconds.")
            return redirect(request, "/staff")
    return await _panel(request, ctx, form)


@router.post("/staff/dead-letters/replay")
async def replay_all(request: Request, ctx: StaffCtx) -> Response:
    overview = await queries.get_overview(ctx)
    return await _replay(request, ctx, [letter.id for letter in overview.dead_letters])


@router.post("/staff/dead-letters/{job_id}/replay")
async def replay_one(request: Request, ctx: StaffCtx, job_id: JobId) -> Response:
    return await _replay(request, ctx, [job_id])


async def _replay(request: Request, ctx: StaffCtx, ids: list[int]) -> Response:
    try:
        count = await actions.replay_jobs(ctx, ids)
    except Conflict as error:
        flash(request, f"{error.detail} {error.mend}", "danger")
        return redirect(request, "/staff")
    flash(request, f"{count} {'job runs' if count == 1 else 'jobs run'} again.")
    return redirect(request, "/staff")


async def _panel(request: Request, ctx: StaffCtx, form: Form[SwitchChange] | None = None) -> Response:
    """Each switch has a form, which bears its name; the given one shows what was wrong."""
    forms = {switch: Form(SwitchChange, prefix=switch.value) for switch in Switch}
    if form:
        forms[Switch(form.prefix)] = form
    overview = await queries.get_overview(ctx)
    return render(request, "admin/panel.html", overview=overview, forms=forms, form=form)
