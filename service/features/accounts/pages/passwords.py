"""Forgotten and changed passwords."""

from __future__ import annotations

from fastapi import Request, Response

from service.core.errors import Invalid
from service.features.accounts import actions, queries
from service.features.accounts.models import Purpose
from service.features.accounts.pages._shared import SECRET_ADDRESS, router, with_session
from service.features.accounts.schemas import ChangePassword, ChoosePassword, MailMe
from service.guardrails.contexts import PublicCtx, UserCtx
from service.guardrails.rate_limits import MAIL, STEP_UP, TOKEN, limit
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import redirect
from service.web.templating import render


@router.get("/forgot")
async def show_forgot(request: Request, ctx: PublicCtx) -> Response:
    return render(request, "accounts/forgot.html", form=Form(MailMe))


@router.post("/forgot")
@limit(MAIL)
async def request_reset(request: Request, ctx: PublicCtx) -> Response:
    form = await Form.parse(MailMe, request)
    if form.valid:
        await actions.request_reset(ctx, form.data.email)
        return redirect(request, "/forgot/sent")
    return render(request, "accounts/forgot.html", form=form)


@router.get("/forgot/sent")
async def show_forgot_sent(request: Request, ctx: PublicCtx) -> Response:
    return render(request, "accounts/sent.html", what="reset")


@router.get("/reset/{link}")
async def show_reset(request: Request, ctx: PublicCtx, link: str) -> Response:
    """Shows a form and uses nothing up: scanners that open the links in mails must not burn them."""
    email = await queries.get_link_owner(ctx, link, Purpose.RESET)
    form = Form(ChoosePassword)
    return render(request, "accounts/reset.html", headers=SECRET_ADDRESS, form=form, link=link, email=email)


@router.post("/reset/{link}")
@limit(TOKEN)
async def reset_password(request: Request, ctx: PublicCtx, link: str) -> Response:
    form = await Form.parse(ChoosePassword, request)
    email = await queries.get_link_owner(ctx, link, Purpose.RESET)
    if form.valid:
        try:
            await actions.reset_password(ctx, link, form.data.password.get_secret_value())
            flash(request, "Your password is changed and you are logged out everywhere. Log in with the new one.")
            return redirect(request, "/login")
        except Invalid as error:
            form.refuse(error)
    return render(request, "accounts/reset.html", headers=SECRET_ADDRESS, form=form, link=link, email=email)


@router.get("/account/password")
async def show_password(request: Request, ctx: UserCtx) -> Response:
    account = await queries.get_account(ctx)
    return render(request, "accounts/password.html", form=Form(ChangePassword), account=account)


@router.post("/account/password")
@limit(STEP_UP)
async def change_password(request: Request, ctx: UserCtx) -> Response:
    form = await Form.parse(ChangePassword, request)
    if form.valid:
        current = form.data.current.get_secret_value() if form.data.current else None
        try:
            token = await actions.change_password(ctx, current, form.data.password.get_secret_value())
            flash(request, "Your password is changed. Other devices are logged out.")
            return with_session(ctx, redirect(request, "/account/security"), token)
        except Invalid as error:
            form.refuse(error)
    return render(request, "accounts/password.html", form=form, account=await queries.get_account(ctx))
