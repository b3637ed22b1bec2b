"""Name and address."""

from __future__ import annotations

from fastapi import Request, Response

from service.core.context import Context
from service.core.errors import Conflict, Invalid
from service.features.accounts import actions, queries
from service.features.accounts.models import Purpose
from service.features.accounts.pages._shared import SECRET_ADDRESS, go_back, router
from service.features.accounts.schemas import ChangeEmail, ChangeName
from service.guardrails.contexts import PublicCtx, UserCtx
from service.guardrails.rate_limits import MAIL, TOKEN, limit
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import redirect
from service.web.templating import render


@router.get("/account")
async def show_account(request: Request, ctx: UserCtx) -> Response:
    return await _page(request, ctx)


@router.post("/account/name")
async def change_name(request: Request, ctx: UserCtx) -> Response:
    form = await Form.parse(ChangeName, request, prefix="name")
    if form.valid:
        await actions.change_name(ctx, form.data.name)
        flash(request, "Saved.")
        return redirect(request, "/account")
    return await _page(request, ctx, name_form=form)


@router.post("/account/email")
@limit(MAIL)
async def request_new_email(request: Request, ctx: UserCtx) -> Response:
    form = await Form.parse(ChangeEmail, request, prefix="email")
    if form.valid:
        try:
            await actions.request_new_email(ctx, form.data.email)
            flash(request, f"We have sent a link to {form.data.email}. Open it to complete the change.", "info")
            return redirect(request, "/account")
        except Invalid as error:
            form.refuse(error)
    return await _page(request, ctx, email_form=form)


async def _page(
    request: Request,
    ctx: Context,
    *,
    name_form: Form[ChangeName] | None = None,
    email_form: Form[ChangeEmail] | None = None,
) -> Response:
    account = await queries.get_account(ctx)
    return render(
        request,
        "accounts/account.html",
        account=account,
        name_form=name_form or Form(ChangeName, {"name": account.name}, prefix="name"),
        email_form=email_form or Form(ChangeEmail, prefix="email"),
    )


@router.get("/change-email/{link}")
async def show_new_email(request: Request, ctx: PublicCtx, link: str) -> Response:
    email = await queries.get_link_owner(ctx, link, Purpose.CHANGE_EMAIL)
    return render(request, "accounts/new_email.html", headers=SECRET_ADDRESS, link=link, email=email)


@router.post("/change-email/{link}")
@limit(TOKEN)
async def confirm_new_email(request: Request, ctx: PublicCtx, link: str) -> Response:
    try:
        await actions.confirm_new_email(ctx, link)
    except (Invalid, Conflict) as error:
        return go_back(request, "/login", error)
    flash(request, "Your new address is confirmed. From now on, log in with it.")
    return redirect(request, "/account")
