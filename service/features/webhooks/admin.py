"""Staff see which endpoints take nothing; payloads and secrets are the customers'."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from service.features.webhooks import actions, queries
from service.guardrails.contexts import StaffCtx
from service.web.dead_letters import DeadLetters
from service.web.staff import Column, of_organizations
from service.web.staff_home import StaffPage
from service.web.templating import render

router = APIRouter()
STAFF = (
    of_organizations(
        "/staff/webhook-endpoints",
        "Webhook endpoints",
        queries.list_endpoints_for_staff,
        Column("Endpoint", "id", kind="break"),
        Column("State", "state"),
        Column("Failures in a row", "failures", kind="num"),
        Column("Failing for", "failing_since"),
        Column("Deleted", "deleted_at"),
        Column("Made", "created_at"),
        lead="Where organizations are told what happens, and whether that works; no address and no message.",
        order=51,
    ),
)
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
