"""The staff panel: switches, dead letters, invariants."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from service.core.errors import Conflict, Invalid, ServiceError
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

NAV = [NavItem("Staff", "/staff", "key", order=200, requires=Who.STAFF)]


@router.get("/staff")
async def show_panel(request: Request, ctx: StaffCtx) -> Response:
    return render(request, "admin/panel.html", overview=await queries.get_overview(ctx))


@router.post("/staff/switches/{switch}")
async def turn_switch(request: Request, ctx: StaffCtx, switch: Switch) -> Response:
    form = await Form.parse(SwitchChange, request)
    title, _ = MEANING[switch]
    if not form.valid:
        return _back(request, Invalid(form.summary[0][1]))
    try:
        state = await actions.turn_switch(ctx, switch, on=form.data.on, reason=form.data.reason)
    except Invalid as error:
        return _back(request, error)
    flash(request, f"“{title}” is now {'on' if state.is_on else 'off'}; everywhere within two seconds.")
    return redirect(request, "/staff")


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
        return _back(request, error)
    flash(request, f"{count} {'job runs' if count == 1 else 'jobs run'} again.")
    return redirect(request, "/staff")


def _back(request: Request, error: ServiceError) -> Response:
    flash(request, f"{error.detail} {error.mend}".strip(), "danger")
    return redirect(request, "/staff")
