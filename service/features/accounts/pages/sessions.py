"""Where one is logged in, and the page that asks "is it still you?"."""

from __future__ import annotations

from fastapi import Request, Response

from service.core.context import Context
from service.core.errors import Invalid, NotFound
from service.features.accounts import actions, queries
from service.features.accounts.pages._shared import Back, go_back, router, way_back, with_session
from service.features.accounts.schemas import Confirm
from service.guardrails.contexts import UserCtx
from service.guardrails.rate_limits import STEP_UP, limit
from service.integrations.identity import IdentityProvider
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import redirect
from service.web.templating import render

SESSIONS = "/account/sessions"


@router.get("/account/sessions")
async def show_sessions(request: Request, ctx: UserCtx) -> Response:
    return render(request, "accounts/sessions.html", devices=await queries.list_devices(ctx))


@router.post("/account/sessions/{key}/end")
async def end_device(request: Request, ctx: UserCtx, key: str) -> Response:
    try:
        await actions.end_device(ctx, key)
    except NotFound as error:
        return go_back(request, SESSIONS, error)
    flash(request, "That device is logged out.")
    return redirect(request, SESSIONS)


@router.post("/account/sessions/end-others")
async def end_other_sessions(request: Request, ctx: UserCtx) -> Response:
    token = await actions.end_other_sessions(ctx)
    flash(request, "You are logged out everywhere but here.")
    return with_session(ctx, redirect(request, SESSIONS), token)


@router.get("/confirm")
async def show_confirm(request: Request, ctx: UserCtx, back: Back = "") -> Response:
    return await _confirm_page(request, ctx, Form(Confirm, {"next": back}))


@router.post("/confirm")
@limit(STEP_UP)
async def confirm(request: Request, ctx: UserCtx) -> Response:
    form = await Form.parse(Confirm, request)
    if form.valid:
        password = form.data.password.get_secret_value() if form.data.password else ""
        try:
            token = await actions.confirm_identity(ctx, password, form.data.code)
            return with_session(ctx, redirect(request, way_back(form.data.next)), token)
        except Invalid as error:
            form.refuse(error)
    return await _confirm_page(request, ctx, form)


async def _confirm_page(request: Request, ctx: Context, form: Form[Confirm]) -> Response:
    account, provider = await queries.get_account(ctx), ctx.resources.get(IdentityProvider)
    return render(request, "accounts/confirm.html", form=form, account=account, provider=provider)
