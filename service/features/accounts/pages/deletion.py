"""Leave, and come back within thirty days."""

from __future__ import annotations

from fastapi import Request, Response

from service.core.errors import Conflict, Invalid, NotFound
from service.features.accounts import actions, queries
from service.features.accounts.models import Purpose
from service.features.accounts.pages._shared import SECRET_ADDRESS, go_back, router
from service.features.accounts.schemas import DeleteAccount, MailMe
from service.guardrails import sessions
from service.guardrails.actions import allow
from service.guardrails.contexts import PublicCtx, UserCtx
from service.guardrails.rate_limits import MAIL, TOKEN, limit
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import redirect
from service.web.templating import render


@router.get("/account/deletion")
async def show_deletion(request: Request, ctx: UserCtx) -> Response:
    allow(ctx, actions.delete_account)
    return render(request, "accounts/deletion.html", form=Form(DeleteAccount))


@router.post("/account/deletion")
async def delete_account(request: Request, ctx: UserCtx) -> Response:
    form = await Form.parse(DeleteAccount, request)
    if form.valid:
        try:
            await actions.delete_account(ctx, form.data.email)
        except (Invalid, Conflict) as error:
            form.refuse(error)
        else:
            flash(request, "Your account is deleted. For 30 days the link in our mail brings it back.", "info")
            response = redirect(request, "/login")
            sessions.clear_cookie(response, ctx.settings)
            return response
    return render(request, "accounts/deletion.html", form=form)


@router.get("/recover")
async def show_recovery(request: Request, ctx: PublicCtx) -> Response:
    return render(request, "accounts/recover.html", form=Form(MailMe))


@router.post("/recover")
@limit(MAIL)
async def request_recovery(request: Request, ctx: PublicCtx) -> Response:
    form = await Form.parse(MailMe, request)
    if form.valid:
        await actions.request_recovery(ctx, form.data.email)
        return redirect(request, "/recover/sent")
    return render(request, "accounts/recover.html", form=form)


@router.get("/recover/sent")
async def show_recovery_sent(request: Request, ctx: PublicCtx) -> Response:
    return render(request, "accounts/sent.html", what="recovery")


@router.get("/recover/{link}")
async def show_undo(request: Request, ctx: PublicCtx, link: str) -> Response:
    email = await queries.get_link_owner(ctx, link, Purpose.UNDO_DELETION)
    return render(request, "accounts/undo.html", headers=SECRET_ADDRESS, link=link, email=email)


@router.post("/recover/{link}")
@limit(TOKEN)
async def undo_deletion(request: Request, ctx: PublicCtx, link: str) -> Response:
    try:
        await actions.undo_deletion(ctx, link)
    except (Invalid, Conflict, NotFound) as error:
        return go_back(request, "/recover", error)
    flash(request, "Welcome back. Your account is as you left it; log in as ever.")
    return redirect(request, "/login")
