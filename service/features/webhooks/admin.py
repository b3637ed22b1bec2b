"""Staff see which endpoints take nothing; payloads and secrets are the customers'."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from service.features.webhooks import actions, queries
from service.guardrails.contexts import StaffCtx
from service.web.dead_letters import DeadLetters
from service.web.staff_home import StaffPage
from service.web.templating import render

router = APIRouter()
STAFF_PAGES = [StaffPage("Webhooks", "/staff/webhooks", "Which endpoints of customers take nothing.", 50)]
DEAD_LETTERS = [
    DeadLetters(
        "webhooks",
        "Outgoing webhooks",
        "Messages that a customer's endpoint did not take in ten attempts over two days, or that somebody skipped.",
        "WebhooksLate",
        queries.count_dead,
        queries.list_dead,
        actions.replay_dead,
    )
]


@router.get("/staff/webhooks")
async def list_failing(request: Request, ctx: StaffCtx) -> Response:
    return render(request, "webhooks/staff/failing.html", failing=await queries.list_failing(ctx))
