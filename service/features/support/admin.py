"""For staff: entering a person's account."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Request, Response

from service.core.context import Context
from service.core.errors import Conflict, NotFound
from service.features.support import actions, queries
from service.features.support.schemas import VisitStart
from service.guardrails import sessions
from service.guardrails.contexts import StaffCtx
from service.web.banners import remember_visit
from service.web.forms import Form
from service.web.responses import HOME, redirect
from service.web.templating import render

router = APIRouter()


@router.get("/staff/people/{person_id}/impersonation")
async def show_visit_form(request: Request, ctx: StaffCtx, person_id: UUID) -> Response:
    return await _page(request, ctx, person_id, Form(VisitStart))


@router.post("/staff/people/{person_id}/impersonation")
async def begin_visit(request: Request, ctx: StaffCtx, person_id: UUID) -> Response:
    form = await Form.parse(VisitStart, request)
    if form.valid:
        try:
            token = await actions.begin_visit(ctx, person_id, form.data)
        except (Conflict, NotFound) as error:
            form.refuse(error)
        else:
            response = redirect(request, HOME)
            sessions.set_cookie(response, ctx.settings, token)
            remember_visit(response, ctx.settings)
            return response
    return await _page(request, ctx, person_id, form)


async def _page(request: Request, ctx: Context, person_id: UUID, form: Form[VisitStart]) -> Response:
    target = await queries.get_target(ctx, person_id)
    return render(request, "support/begin.html", target=target, form=form)
