"""How the service is doing: versions, schema, queue, workers, breakers, invariants; each with a plain state."""

from __future__ import annotations

from fastapi import Request, Response

from service.features.admin import actions, queries
from service.features.admin.pages._shared import HOME, router
from service.guardrails.contexts import StaffCtx
from service.web.flash import flash
from service.web.responses import redirect
from service.web.templating import render

SYSTEM = f"{HOME}/system"


@router.get("/staff/system")
async def show_system(request: Request, ctx: StaffCtx) -> Response:
    more = [fact for facts in request.app.state.system_facts for fact in await facts(ctx)]
    runbooks = ctx.settings.runbooks_url.rstrip("/")
    return render(request, "admin/system.html", system=await queries.get_system(ctx), more=more, runbooks=runbooks)


@router.post("/staff/system/verify-log")
async def verify_log(request: Request, ctx: StaffCtx) -> Response:
    await actions.verify_log(ctx)
    flash(request, "The worker recomputes the log now. Reload this page to see what it found.")
    return redirect(request, SYSTEM)
