"""Password, codes from an app, devices, and the page that asks "is it still you?"."""

from __future__ import annotations

from fastapi import Request, Response

from service.core.errors import Conflict, Invalid, NotFound
from service.features.accounts import actions, queries
from service.features.accounts.pages._shared import Back, go_back, router, way_back, with_session
from service.features.accounts.schemas import (
    ChangePassword,
    ChoosePassword,
    ConfirmByCode,
    ConfirmByPassword,
    ConfirmTotp,
)
from service.guardrails.contexts import UserCtx
from service.guardrails.rate_limits import SECOND_FACTOR, STEP_UP, limit
from service.integrations.identity import IdentityProvider
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import redirect
from service.web.templating import render

SECURITY, SESSIONS = "/account/security", "/account/sessions"


@router.get("/account/security")
async def show_security(request: Request, ctx: UserCtx) -> Response:
    account = await queries.get_account(ctx)
    return render(request, "accounts/security.html", account=account, provider=ctx.resources.get(IdentityProvider))


@router.get("/account/password")
async def show_password(request: Request, ctx: UserCtx) -> Response:
    account = await queries.get_account(ctx)
    form = Form(ChangePassword if account.has_password else ChoosePassword)
    return render(request, "accounts/password.html", form=form, account=account)


@router.post("/account/password")
@limit(STEP_UP)
async def change_password(request: Request, ctx: UserCtx) -> Response:
    account = await queries.get_account(ctx)
    form = await Form.parse(ChangePassword if account.has_password else ChoosePassword, request)
    if form.valid:
        current = form.data.current.get_secret_value() if isinstance(form.data, ChangePassword) else None
        try:
            token = await actions.change_password(ctx, current, form.data.password.get_secret_value())
            flash(request, "Your password is changed. Other devices are logged out.")
            return with_session(ctx, redirect(request, SECURITY), token)
        except Invalid as error:
            form.refuse(error)
    return render(request, "accounts/password.html", form=form, account=account)


@router.post("/account/totp")
@limit(STEP_UP)
async def offer_totp(request: Request, ctx: UserCtx) -> Response:
    try:
        await actions.offer_totp(ctx)
    except Conflict as error:
        return go_back(request, SECURITY, error)
    return redirect(request, "/account/totp")


@router.get("/account/totp")
async def show_totp(request: Request, ctx: UserCtx) -> Response:
    try:
        offer = await queries.get_totp_offer(ctx)
    except Conflict:
        return redirect(request, SECURITY)
    return render(request, "accounts/totp.html", offer=offer, form=Form(ConfirmTotp))


@router.post("/account/totp/confirmation")
@limit(SECOND_FACTOR)
async def confirm_totp(request: Request, ctx: UserCtx) -> Response:
    form = await Form.parse(ConfirmTotp, request)
    if form.valid:
        try:
            secured = await actions.confirm_totp(ctx, form.data.code)
        except Conflict as error:
            return go_back(request, SECURITY, error)
        except Invalid as error:
            form.refuse(error)
        else:
            # No redirect: the codes exist in this one answer and nowhere else.
            shown = render(request, "accounts/codes.html", codes=secured.codes)
            return with_session(ctx, shown, secured.token)
    return render(request, "accounts/totp.html", offer=await queries.get_totp_offer(ctx), form=form)


@router.post("/account/totp/removal")
@limit(STEP_UP)
async def remove_totp(request: Request, ctx: UserCtx) -> Response:
    try:
        token = await actions.remove_totp(ctx)
    except Conflict as error:
        return go_back(request, SECURITY, error)
    flash(request, "Codes are off. Your password alone opens your account now.", "warning")
    return with_session(ctx, redirect(request, SECURITY), token)


@router.post("/account/recovery-codes")
@limit(STEP_UP)
async def renew_recovery_codes(request: Request, ctx: UserCtx) -> Response:
    try:
        codes = await actions.renew_recovery_codes(ctx)
    except Conflict as error:
        return go_back(request, SECURITY, error)
    return render(request, "accounts/codes.html", codes=codes)


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
    account = await queries.get_account(ctx)
    form = Form(ConfirmByPassword if account.has_password else ConfirmByCode, {"next": back})
    provider = ctx.resources.get(IdentityProvider)
    return render(request, "accounts/confirm.html", form=form, account=account, provider=provider)


@router.post("/confirm")
@limit(STEP_UP)
async def confirm(request: Request, ctx: UserCtx) -> Response:
    account = await queries.get_account(ctx)
    form = await Form.parse(ConfirmByPassword if account.has_password else ConfirmByCode, request)
    if form.valid:
        try:
            token = await actions.confirm_identity(ctx, form.data.proof.get_secret_value())
            return with_session(ctx, redirect(request, way_back(form.data.next)), token)
        except Invalid as error:
            form.refuse(error)
    provider = ctx.resources.get(IdentityProvider)
    return render(request, "accounts/confirm.html", form=form, account=account, provider=provider)
