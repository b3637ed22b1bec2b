"""Where a person asks to be erased, sees what will happen and what stays, and can take it back."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from service.core.context import Context
from service.core.errors import Conflict, Invalid, NotFound
from service.features.erasure import actions, queries
from service.features.erasure.schemas import Ask
from service.guardrails.contexts import UserCtx
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import redirect
from service.web.templating import render

router = APIRouter()
HOME = "/privacy/erasure"


@router.get("/privacy/erasure")
async def show_erasure(request: Request, ctx: UserCtx) -> Response:
    return await _page(request, ctx, Form(Ask))


@router.post("/privacy/erasure")
async def ask(request: Request, ctx: UserCtx) -> Response:
    form = await Form.parse(Ask, request)
    if form.valid:
        try:
            await actions.ask(ctx, form.data.email)
        except (Invalid, Conflict) as error:
            form.refuse(error)
        else:
            flash(request, "It begins tomorrow. Until then you can take it back here.", "info")
            return redirect(request, HOME)
    return await _page(request, ctx, form)


@router.post("/privacy/erasure/withdraw")
async def withdraw(request: Request, ctx: UserCtx) -> Response:
    try:
        await actions.withdraw(ctx)
    except (NotFound, Conflict) as error:
        flash(request, f"{error.detail} {error.mend}", "danger")
    else:
        flash(request, "Taken back. Nothing is erased.")
    return redirect(request, HOME)


async def _page(request: Request, ctx: Context, form: Form[Ask]) -> Response:
    mine, kept = await queries.get_mine(ctx), await queries.list_kept(ctx)
    return render(request, "erasure/mine.html", mine=mine, kept=kept, form=form)
