"""Where staff begin: what waits for a person, and every page there is."""

from __future__ import annotations

from fastapi import Request, Response

from service.features.admin import queries
from service.features.admin.pages._shared import router
from service.guardrails.contexts import StaffCtx
from service.web.templating import render


@router.get("/staff")
async def show_home(request: Request, ctx: StaffCtx) -> Response:
    kinds = [(kind, await kind.count(ctx)) for kind in request.app.state.dead_letters]
    on = [row for row in await queries.list_switches(ctx) if row.is_on]
    waiting = [(kind, count) for kind, count in kinds if count]
    return render(request, "admin/home.html", tiles=request.app.state.staff_pages, waiting=waiting, on=on)
