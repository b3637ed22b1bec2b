"""Links by mail: ask for one, look at it, use it.

Looking uses nothing up: the scanners that open every link in a mail must neither confirm anything nor burn the link.
"""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response

from service.core.context import Context
from service.core.errors import Conflict, Invalid, NotFound
from service.features.accounts import actions, queries
from service.features.accounts.models import Purpose
from service.features.accounts.pages._shared import browser_of, come_in, go_back, router
from service.features.accounts.schemas import ChoosePassword, MailMe, PasswordOnly
from service.guardrails.contexts import PublicCtx
from service.guardrails.rate_limits import MAIL, TOKEN, limit
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import redirect
from service.web.templating import render

PURPOSES = {
    "sign-up": Purpose.VERIFY,
    "verify": Purpose.VERIFY,
    "forgot": Purpose.RESET,
    "reset": Purpose.RESET,
    "recover": Purpose.UNDO_DELETION,
    "change-email": Purpose.CHANGE_EMAIL,
}
"""By the first part of the path."""
SECRET_ADDRESS = {"Referrer-Policy": "no-referrer"}
"""The address opens something: it must not travel to wherever the reader goes next."""


def _purpose(request: Request) -> Purpose:
    return PURPOSES[request.url.path.split("/")[1]]


@router.get("/verify")
@router.get("/forgot")
@router.get("/recover")
async def show_request(request: Request, ctx: PublicCtx) -> Response:
    return render(request, "accounts/ask.html", form=Form(MailMe), purpose=_purpose(request).value)


@router.post("/verify")
@router.post("/forgot")
@router.post("/recover")
@limit(MAIL)
async def request_link(request: Request, ctx: PublicCtx) -> Response:
    form = await Form.parse(MailMe, request)
    if form.valid:
        await actions.request_link(ctx, form.data.email, _purpose(request))
        return redirect(request, f"{request.url.path}/sent")
    return render(request, "accounts/ask.html", form=form, purpose=_purpose(request).value)


@router.get("/sign-up/sent")
@router.get("/verify/sent")
@router.get("/forgot/sent")
@router.get("/recover/sent")
async def show_sent(request: Request, ctx: PublicCtx) -> Response:
    return render(request, "accounts/sent.html", purpose=_purpose(request).value)


@router.get("/verify/{link}")
@router.get("/reset/{link}")
@router.get("/recover/{link}")
@router.get("/change-email/{link}")
async def show_link(request: Request, ctx: PublicCtx, link: str) -> Response:
    return await _page(
        request, ctx, link, Form(PasswordOnly if _purpose(request) is Purpose.VERIFY else ChoosePassword)
    )


@router.post("/verify/{link}")
@limit(TOKEN)
async def confirm_address(request: Request, ctx: PublicCtx, link: str) -> Response:
    form = await Form.parse(PasswordOnly, request)
    if form.valid:
        try:
            browser = browser_of(request, ctx, await queries.get_link_owner(ctx, link, Purpose.VERIFY) or "")
            entrance = await actions.confirm_address(ctx, link, form.data.password.get_secret_value(), browser)
            return await come_in(request, ctx, entrance, "")
        except Invalid as error:
            form.refuse(error)
    return await _page(request, ctx, link, form)


@router.post("/reset/{link}")
@limit(TOKEN)
async def reset_password(request: Request, ctx: PublicCtx, link: str) -> Response:
    form = await Form.parse(ChoosePassword, request)
    if form.valid:
        try:
            await actions.reset_password(ctx, link, form.data.password.get_secret_value())
            flash(request, "Your password is changed and you are logged out everywhere. Log in with the new one.")
            return redirect(request, "/login")
        except Invalid as error:
            form.refuse(error)
    return await _page(request, ctx, link, form)


@router.post("/recover/{link}")
@limit(TOKEN)
async def undo_deletion(request: Request, ctx: PublicCtx, link: str) -> Response:
    try:
        await actions.undo_deletion(ctx, link)
    except (Invalid, Conflict, NotFound) as error:
        return go_back(request, "/recover", error)
    flash(request, "Welcome back. Your account is as you left it; log in as ever.")
    return redirect(request, "/login")


@router.post("/change-email/{link}")
@limit(TOKEN)
async def confirm_new_email(request: Request, ctx: PublicCtx, link: str) -> Response:
    try:
        await actions.confirm_new_email(ctx, link)
    except (Invalid, Conflict) as error:
        return go_back(request, "/login", error)
    flash(request, "Your new address is confirmed. From now on, log in with it.")
    return redirect(request, "/account")


async def _page(request: Request, ctx: Context, link: str, form: Form[Any]) -> Response:
    """The page behind a link; a dead one says so at once, and where to get another."""
    purpose = _purpose(request)
    email = await queries.get_link_owner(ctx, link, purpose)
    here = request.url.path
    return render(
        request, "accounts/link.html", headers=SECRET_ADDRESS, form=form, purpose=purpose.value, here=here, email=email
    )
