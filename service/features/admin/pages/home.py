"""Where staff begin: what waits for a person, and every page there is."""

from __future__ import annotations

from fastapi import Request, Response

from service.features.admin import queries
from service.features.admin.pages._shared import HOME, router
from service.guardrails.contexts import StaffCtx
from service.web.staff_home import StaffPage
from service.web.templating import render

OWN = [
    StaffPage("Dead letters", f"{HOME}/dead-letters", "What was given up on, of every kind, to try again.", 10),
    StaffPage("Switches", f"{HOME}/switches", "Pause changes, sign-ups or mail while somebody looks into it.", 12),
]


@router.get("/staff")
async def show_home(request: Request, ctx: StaffCtx) -> Response:
    kinds = [(kind, await kind.count(ctx)) for kind in request.app.state.dead_letters]
    on = [row for row in await queries.list_switches(ctx) if row.is_on]
    tiles = sorted([*OWN, *request.app.state.staff_pages], key=lambda tile: (tile.order, tile.title))
    waiting = [(kind, count) for kind, count in kinds if count]
    return render(request, "admin/home.html", tiles=tiles, waiting=waiting, on=on)
