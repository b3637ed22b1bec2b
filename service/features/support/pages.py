"""Leaving a visit, coming back from one that is over; and the owner's page about who may come."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from service.core.context import Context
from service.features.support import actions, queries
from service.guardrails import sessions
from service.guardrails.contexts import Ctx, PublicCtx, UserCtx
from service.guardrails.pagination import PageRequest
from service.guardrails.rate_limits import TOKEN, limit
from service.web.banners import forget_visit
from service.web.flash import flash
from service.web.responses import redirect
from service.web.templating import render

router = APIRouter()
STAFF, ACCESS = "/staff", "/organization/support"


@router.post("/impersonation/stop")
async def stop_visit(request: Request, ctx: UserCtx) -> Response:
    return _own_session(request, ctx, await actions.stop_visit(ctx))


@router.get("/impersonation/over")
async def show_over(request: Request, ctx: PublicCtx) -> Response:
    """Public, because a visit that is over opens nothing any more."""
    return render(request, "support/over.html")


@router.post("/impersonation/over")
@limit(TOKEN)
async def come_back(request: Request, ctx: PublicCtx) -> Response:
    cookie = sessions.cookie_of(request, ctx.settings)
    return _own_session(request, ctx, await actions.come_back(ctx, cookie) if cookie else None)


@router.get(ACCESS)
async def show_access(request: Request, ctx: Ctx, page: PageRequest) -> Response:
    allowed, visits = await queries.is_allowed(ctx), await queries.list_visits(ctx, page)
    return render(request, "support/access.html", allowed=allowed, visits=visits)


@router.post(f"{ACCESS}/opening")
async def let_support_in(request: Request, ctx: Ctx) -> Response:
    await actions.allow_access(ctx, allowed=True)
    flash(request, "Our support may come in, each time with a reason.")
    return redirect(request, ACCESS)


@router.post(f"{ACCESS}/closing")
async def keep_support_out(request: Request, ctx: Ctx) -> Response:
    await actions.allow_access(ctx, allowed=False)
    flash(request, "Our support stays outside, and whoever was inside is out.")
    return redirect(request, ACCESS)


def _own_session(request: Request, ctx: Context, token: str | None) -> Response:
    if token is None:
        flash(request, "You have left the account. Your own login has ended meanwhile: log in again.", "info")
        response = redirect(request, "/login")
        sessions.clear_cookie(response, ctx.settings)
    else:
        flash(request, "You have left the account, and are yourself again. The person gets a mail about your visit.")
        response = redirect(request, STAFF)
        sessions.set_cookie(response, ctx.settings, token)
    forget_visit(response, ctx.settings)
    return response
