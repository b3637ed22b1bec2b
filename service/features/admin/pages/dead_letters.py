"""What was given up on: how many of each kind. Each kind is a listing of the panel (service/web/dead_letters.py)."""

from __future__ import annotations

from fastapi import Request, Response

from service.features.admin import actions, queries
from service.features.admin.pages._shared import router
from service.guardrails.contexts import StaffCtx
from service.web.dead_letters import MOST_COUNTED, DeadLetters
from service.web.templating import render

DEAD_LETTERS = [
    DeadLetters(
        "jobs",
        "Jobs",
        "Work that failed at every attempt. Mend the cause, then run it again.",
        "WorkerStalled",
        queries.count_dead_jobs,
        queries.list_dead_jobs,
        actions.replay_jobs,
        actions.discard_jobs,
    )
]


@router.get("/staff/dead-letters")
async def show_kinds(request: Request, ctx: StaffCtx) -> Response:
    kinds = [(kind, await kind.count(ctx)) for kind in request.app.state.dead_letters]
    return render(request, "admin/dead_letters.html", kinds=kinds, most=MOST_COUNTED)
