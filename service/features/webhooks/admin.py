"""Staff see which endpoints take nothing; payloads and secrets are the customers'."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from service.features.webhooks import queries
from service.guardrails.contexts import StaffCtx
from service.web.templating import render

router = APIRouter()


@router.get("/staff/webhooks")
async def list_failing(request: Request, ctx: StaffCtx) -> Response:
    return render(request, "webhooks/staff/failing.html", failing=await queries.list_failing(ctx))
