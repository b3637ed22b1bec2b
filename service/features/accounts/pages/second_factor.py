"""The security page, codes from an app, recovery codes."""

from __future__ import annotations

from fastapi import Request, Response

from service.core.errors import Conflict, Invalid
from service.features.accounts import actions, queries
from service.features.accounts.pages._shared import go_back, router, with_session
from service.features.accounts.schemas import ConfirmTotp
from service.guardrails.contexts import UserCtx
from service.guardrails.rate_limits import SECOND_FACTOR, limit
from service.integrations.identity import IdentityProvider
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import redirect
from service.web.templating import render

SECURITY = "/account/security"


@router.get("/account/security")
async def show_security(request: Request, ctx: UserCtx) -> Response:
    account = await queries.get_account(ctx)
    return render(request, "accounts/security.html", account=account, provider=ctx.resources.get(IdentityProvider))


@router.post("/account/totp")
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
async def remove_totp(request: Request, ctx: UserCtx) -> Response:
    try:
        token = await actions.remove_totp(ctx)
    except Conflict as error:
        return go_back(request, SECURITY, error)
    flash(request, "Codes are off. Your password alone opens your account now.", "warning")
    return with_session(ctx, redirect(request, SECURITY), token)


@router.post("/account/recovery-codes")
async def renew_recovery_codes(request: Request, ctx: UserCtx) -> Response:
    try:
        codes = await actions.renew_recovery_codes(ctx)
    except Conflict as error:
        return go_back(request, SECURITY, error)
    return render(request, "accounts/codes.html", codes=codes)
