"""Sign up, log in, second step, log out."""

from __future__ import annotations

from fastapi import Request, Response

from service.core.errors import Invalid, NotAuthenticated
from service.features.accounts import actions
from service.features.accounts.pages._shared import (
    CODE,
    Back,
    browser_of,
    come_in,
    go_back,
    router,
    waiting,
)
from service.features.accounts.schemas import LogIn, SecondFactor, SignUp
from service.guardrails import before_login, sessions
from service.guardrails.contexts import PublicCtx, UserCtx
from service.guardrails.rate_limits import LOGIN, SECOND_FACTOR, SIGN_UP, limit
from service.integrations.identity import IdentityProvider
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import redirect
from service.web.templating import render


@router.get("/sign-up")
async def show_sign_up(request: Request, ctx: PublicCtx) -> Response:
    return render(request, "accounts/sign_up.html", form=Form(SignUp), provider=ctx.resources.get(IdentityProvider))


@router.post("/sign-up")
@limit(SIGN_UP)
async def sign_up(request: Request, ctx: PublicCtx) -> Response:
    form = await Form.parse(SignUp, request)
    if form.valid:
        try:
            await actions.sign_up(ctx, form.data)
            return redirect(request, "/sign-up/sent")
        except Invalid as error:
            form.refuse(error)
    return render(request, "accounts/sign_up.html", form=form, provider=ctx.resources.get(IdentityProvider))


@router.get("/login")
async def show_login(request: Request, ctx: PublicCtx, back: Back = "") -> Response:
    form = Form(LogIn, {"next": back})
    return render(request, "accounts/login.html", form=form, provider=ctx.resources.get(IdentityProvider))


@router.post("/login")
@limit(LOGIN)
async def log_in(request: Request, ctx: PublicCtx) -> Response:
    form = await Form.parse(LogIn, request)
    if form.valid:
        try:
            entrance = await actions.log_in(ctx, form.data, browser_of(request, ctx, form.data.email))
            return await come_in(request, ctx, entrance, form.data.next)
        except Invalid as error:
            form.refuse(error)
    return render(request, "accounts/login.html", form=form, provider=ctx.resources.get(IdentityProvider))


@router.get("/login/code")
async def show_code(request: Request, ctx: PublicCtx) -> Response:
    if await before_login.held(request, ctx.resources, CODE, keep=True) is None:
        return redirect(request, "/login")
    return render(request, "accounts/code.html", form=Form(SecondFactor))


@router.post("/login/code")
@limit(SECOND_FACTOR)
async def log_in_with_code(request: Request, ctx: PublicCtx) -> Response:
    facts = await before_login.held(request, ctx.resources, CODE, keep=True)
    if facts is None:
        return go_back(request, "/login", NotAuthenticated("This took too long.", mend="Please begin again."))
    form = await Form.parse(SecondFactor, request)
    if form.valid:
        try:
            browser = browser_of(request, ctx, "")
            entrance = await actions.log_in_with_code(ctx, waiting(facts), form.data.code, browser)
            await before_login.held(request, ctx.resources, CODE)
            return await come_in(request, ctx, entrance, facts["next"])
        except NotAuthenticated as error:
            return go_back(request, "/login", error)
        except Invalid as error:
            form.refuse(error)
    return render(request, "accounts/code.html", form=form)


@router.post("/logout")
async def log_out(request: Request, ctx: UserCtx) -> Response:
    await actions.log_out(ctx)
    flash(request, "You are logged out.", "info")
    response = redirect(request, "/login")
    sessions.clear_cookie(response, ctx.settings)
    return response
