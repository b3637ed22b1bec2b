"""Why somebody's personal data must be seen: asked by listings and pages of the panel that show any."""

from __future__ import annotations

from fastapi import Request, Response

from service.features.admin import actions
from service.features.admin.pages._shared import HOME, router
from service.features.admin.schemas import LONGEST_WAY, GiveReason
from service.guardrails.contexts import StaffCtx
from service.web.forms import Form
from service.web.responses import redirect, safe_path
from service.web.templating import render


@router.get("/staff/reasons")
async def ask_reason(request: Request, ctx: StaffCtx) -> Response:
    asked = request.query_params.get("next", "")
    return render(request, "admin/reason.html", form=Form(GiveReason, {"next": _way_back(asked)}))


@router.post("/staff/reasons")
async def give_reason(request: Request, ctx: StaffCtx) -> Response:
    form = await Form.parse(GiveReason, request)
    if not form.valid:
        return render(request, "admin/reason.html", form=form)
    to = _way_back(form.data.next)
    await actions.give_reason(ctx, to.partition("?")[0], form.data.reason)
    return redirect(request, to)


def _way_back(wanted: str) -> str:
    """A page of the panel, which is also whose data are asked for."""
    path = safe_path(wanted, default=HOME)
    return path if path.startswith(f"{HOME}/") and len(path) <= LONGEST_WAY else HOME
