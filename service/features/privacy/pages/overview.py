"""What we hold and why: for everybody the notice, for a person who is logged in their own page."""

from __future__ import annotations

from functools import lru_cache

from fastapi import Request, Response

from service.core.database import Base
from service.features.privacy import actions, queries
from service.features.privacy.flows.information import recipients
from service.features.privacy.pages._shared import router
from service.guardrails.actions import may
from service.guardrails.contexts import PublicCtx, UserCtx
from service.guardrails.data_map import record
from service.guardrails.data_map.record import Held
from service.web.templating import render

REFRESH_SECONDS = 2


@router.get("/privacy")
async def show_privacy(request: Request, ctx: UserCtx) -> Response:
    """The poll asks here, too, while a copy is being made."""
    return render(
        request,
        "privacy/privacy.html",
        fragment="exports",
        exports=await queries.list_exports(ctx),
        here="/privacy",
        seconds=REFRESH_SECONDS,
        can=may(ctx, actions.request_export),
        held=held(),
        contact=ctx.settings.privacy_contact,
    )


@router.get("/privacy/notice")
async def show_notice(request: Request, ctx: PublicCtx) -> Response:
    return render(
        request,
        "privacy/notice.html",
        held=held(),
        recipients=recipients(ctx.settings),
        controller=ctx.settings.controller_name,
        contact=ctx.settings.privacy_contact,
    )


@lru_cache(maxsize=1)
def held() -> list[Held]:
    """From the data map, which does not change while the process lives."""
    return record.notice(Base.metadata)
