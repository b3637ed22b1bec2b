"""For staff: news to those who asked for it, and whose data must rest."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Request, Response

from service.core.context import Context
from service.core.errors import Conflict, NotFound
from service.features.consents import actions, queries
from service.features.consents.schemas import LiftRestriction, NewsText, RestrictPerson
from service.guardrails.contexts import StaffCtx
from service.guardrails.pagination import PageRequest, Position
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import redirect
from service.web.staff_home import StaffPage
from service.web.templating import render

router = APIRouter()
HOME = "/staff/restrictions"
STAFF_PAGES = [
    StaffPage("News", "/staff/news", "Write to everybody who agreed to product news.", order=72),
    StaffPage("Restrictions", HOME, "Whose data are kept and used for nothing.", order=71),
]


@router.get("/staff/news")
async def show_news(request: Request, ctx: StaffCtx) -> Response:
    return render(request, "consents/staff/news.html", form=Form(NewsText), sent=await queries.list_news(ctx))


@router.post("/staff/news")
async def send_news(request: Request, ctx: StaffCtx) -> Response:
    form = await Form.parse(NewsText, request)
    if form.valid:
        await actions.send_news(ctx, form.data.subject, form.data.text, form.data.reason)
        flash(request, "It goes out now, to everybody who agreed to product news.")
        return redirect(request, "/staff/news")
    return render(request, "consents/staff/news.html", form=form, sent=await queries.list_news(ctx))


@router.get("/staff/restrictions")
async def show_restrictions(request: Request, ctx: StaffCtx, page: PageRequest) -> Response:
    return await _page(request, ctx, page)


@router.post("/staff/restrictions")
async def restrict_person(request: Request, ctx: StaffCtx) -> Response:
    form = await Form.parse(RestrictPerson, request)
    if form.valid:
        try:
            await actions.restrict_person(ctx, form.data.email, form.data.reason)
        except (NotFound, Conflict) as error:
            form.refuse(error)
        else:
            flash(request, "Their data rest from now on.")
            return redirect(request, HOME)
    return await _page(request, ctx, Position(), form)


@router.post("/staff/restrictions/{limit_id}/lift")
async def lift_restriction(request: Request, ctx: StaffCtx, limit_id: UUID) -> Response:
    form = await Form.parse(LiftRestriction, request, prefix=f"r{limit_id}")
    if form.valid:
        try:
            await actions.lift_restriction(ctx, limit_id, form.data.reason)
        except Conflict as error:
            form.refuse(error)
        else:
            flash(request, "We tell the person first; three days after that it ends.")
            return redirect(request, HOME)
    return await _page(request, ctx, Position(), lifting=form)


async def _page(
    request: Request,
    ctx: Context,
    page: PageRequest,
    form: Form[RestrictPerson] | None = None,
    lifting: Form[LiftRestriction] | None = None,
) -> Response:
    """Each restriction has a form, which bears its id; the given one shows what was wrong."""
    found = await queries.list_restrictions(ctx, page)
    forms = {f"r{one.id}": Form(LiftRestriction, prefix=f"r{one.id}") for one in found.items}
    if lifting:
        forms[lifting.prefix] = lifting
    return render(
        request, "consents/staff/restrictions.html", found=found, forms=forms, form=form or Form(RestrictPerson),
        wrong=lifting,
    )  # fmt: skip
