"""The switches: what each does, turning it, and who turned it before."""

from __future__ import annotations

from fastapi import Request, Response

from service.features.admin import actions, queries
from service.features.admin.pages._shared import HOME, router
from service.features.admin.schemas import MEANING, SwitchChange
from service.guardrails.contexts import StaffCtx
from service.guardrails.switches import Switch
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import redirect
from service.web.templating import render

SWITCHES = f"{HOME}/switches"


@router.get("/staff/switches")
async def show_switches(request: Request, ctx: StaffCtx) -> Response:
    return await _page(request, ctx)


@router.post("/staff/switches/{switch}")
async def turn_switch(request: Request, ctx: StaffCtx, switch: Switch) -> Response:
    form = await Form.parse(SwitchChange, request, prefix=switch.value)
    if not form.valid:
        return await _page(request, ctx, form)
    state = await actions.turn_switch(ctx, switch, on=form.data.on, reason=form.data.reason)
    title, _ = MEANING[switch]
    flash(request, f"“{title}” is now {'on' if state.is_on else 'off'}; everywhere within two seconds.")
    return redirect(request, SWITCHES)


async def _page(request: Request, ctx: StaffCtx, form: Form[SwitchChange] | None = None) -> Response:
    """Each switch has a form, which bears its name; the given one shows what was wrong."""
    forms = {switch: Form(SwitchChange, prefix=switch.value) for switch in Switch}
    if form:
        forms[Switch(form.prefix)] = form
    return render(request, "admin/switches.html", switches=await queries.list_switches(ctx), forms=forms, form=form)
