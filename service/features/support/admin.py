"""For staff: entering a person's account; and who had emergency rights, what they did, and what a colleague says."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Request, Response

from service.core.context import Context
from service.core.errors import Conflict, Forbidden, NotFound, StepUpRequired
from service.features.support import actions, queries
from service.features.support.schemas import Review, VisitStart
from service.guardrails import sessions, staff_reasons
from service.guardrails.contexts import StaffCtx
from service.guardrails.pagination import PageRequest, Position
from service.web.banners import remember_visit
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import HOME, redirect
from service.web.staff_home import StaffPage, why
from service.web.templating import render

router = APIRouter()

STAFF_PAGES = [
    StaffPage(
        "Break-glass", "/staff/break-glass", "Who had emergency rights, and what a colleague says to it.", order=90
    )
]


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
    subject = f"/staff/people/{person_id}"
    reason = await staff_reasons.given(ctx, subject, account=person_id)
    return render(request, "support/begin.html", target=target, form=form, reason=reason, why=why(subject))


@router.get("/staff/break-glass")
async def list_grants(request: Request, ctx: StaffCtx, page: PageRequest) -> Response:
    return render(request, "support/grants.html", grants=await queries.list_grants(ctx, page))


@router.get("/staff/break-glass/{grant_id}")
async def show_grant(request: Request, ctx: StaffCtx, grant_id: UUID, page: PageRequest) -> Response:
    return await _grant(request, ctx, grant_id, Form(Review), page)


@router.post("/staff/break-glass/{grant_id}")
async def review_grant(request: Request, ctx: StaffCtx, grant_id: UUID) -> Response:
    form = await Form.parse(Review, request)
    if form.valid:
        try:
            await actions.review_break_glass(ctx, grant_id, form.data.note)
        except StepUpRequired:
            raise
        except (Conflict, Forbidden) as error:
            form.refuse(error)
        else:
            flash(request, "Reviewed. The alert ends by itself.")
            return redirect(request, f"/staff/break-glass/{grant_id}")
    return await _grant(request, ctx, grant_id, form, Position())


async def _grant(request: Request, ctx: Context, grant_id: UUID, form: Form[Review], page: Position) -> Response:
    pages, here = "pages" in request.query_params, f"/staff/break-glass/{grant_id}"
    grant = await queries.get_grant(ctx, grant_id, page, pages=pages)
    reason = await staff_reasons.given(ctx, here)
    return render(
        request, "support/grant.html", grant=grant, form=form, pages=pages, here=here, reason=reason, why=why(here)
    )
