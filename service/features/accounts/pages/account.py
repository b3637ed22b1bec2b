"""Name, address, and leaving."""

from __future__ import annotations

from fastapi import Request, Response

from service.core.context import Context
from service.core.errors import Conflict, Invalid
from service.features.accounts import actions, queries
from service.features.accounts.pages._shared import router
from service.features.accounts.schemas import ChangeEmail, ChangeName, DeleteAccount
from service.guardrails import sessions
from service.guardrails.actions import allow
from service.guardrails.contexts import UserCtx
from service.guardrails.rate_limits import MAIL, limit
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
