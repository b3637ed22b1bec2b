"""Where a person says yes and no: one click each way."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from service.core.context import Context
from service.core.errors import Conflict
from service.features.consents import actions, queries
from service.features.consents.schemas import Agree, Restrict
from service.guardrails.contexts import UserCtx
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import redirect
from service.web.templating import render

router = APIRouter()
HOME = "/privacy/choices"


@router.get("/privacy/choices")
async def show_choices(request: Request, ctx: UserCtx) -> Response:
    return await _page(request, ctx, Form(Restrict))


@router.post("/privacy/choices/{purpose}/yes")
async def agree(request: Request, ctx: UserCtx, purpose: str) -> Response:
    form = await Form.parse(Agree, request)
    try:
        await actions.decide(ctx, purpose, yes=True, version=form.data.version if form.valid else None)
    except Conflict as error:
        flash(request, f"{error.detail} {error.mend}", "warning")
    else:
        flash(request, "Saved. It holds from now on.")
    return redirect(request, HOME)


@router.post("/privacy/choices/{purpose}/no")
async def refuse(request: Request, ctx: UserCtx, purpose: str) -> Response:
    await actions.decide(ctx, purpose, yes=False)
    flash(request, "Saved. It has stopped.")
    return redirect(request, HOME)


@router.post("/privacy/restriction")
async def restrict(request: Request, ctx: UserCtx) -> Response:
    form = await Form.parse(Restrict, request)
    if form.valid:
        await actions.restrict(ctx, form.data.reason)
        flash(request, "Your data rest from now on: we keep them, and use them for nothing that you do not ask for.")
        return redirect(request, HOME)
    return await _page(request, ctx, form)


@router.post("/privacy/restriction/end")
async def unrestrict(request: Request, ctx: UserCtx) -> Response:
    await actions.unrestrict(ctx)
    flash(request, "The restriction has ended.")
    return redirect(request, HOME)


async def _page(request: Request, ctx: Context, form: Form[Restrict]) -> Response:
    return render(request, "consents/choices.html", choices=await queries.list_choices(ctx), form=form)
