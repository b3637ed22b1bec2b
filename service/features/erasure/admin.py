"""For staff: who asked to be erased, by letter too; a second pair of eyes; and the evidence of each step."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Request, Response

from service.core.context import Context
from service.core.errors import Conflict, Forbidden, NotFound
from service.features.erasure import actions, queries
from service.features.erasure.models import State
from service.features.erasure.schemas import Enter, Reason
from service.guardrails import staff_reasons
from service.guardrails.contexts import StaffCtx
from service.guardrails.pagination import PageRequest, Position
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import redirect
from service.web.staff_home import StaffPage
from service.web.templating import render

router = APIRouter()
HOME = "/staff/erasures"
STAFF_PAGES = [StaffPage("Erasures", HOME, "Who asked to be erased, and the evidence of each step.", order=70)]


@router.get("/staff/erasures")
async def show_requests(request: Request, ctx: StaffCtx, page: PageRequest) -> Response:
    return await _list(request, ctx, page, Form(Enter))


@router.post("/staff/erasures")
async def enter(request: Request, ctx: StaffCtx) -> Response:
    form = await Form.parse(Enter, request)
    if form.valid:
        try:
            made = await actions.enter(ctx, form.data.email, form.data.reason)
        except (NotFound, Conflict, Forbidden) as error:
            form.refuse(error)
        else:
            flash(request, "Entered. A colleague has to check who wrote.")
            return redirect(request, f"{HOME}/{made.id}")
    return await _list(request, ctx, Position(), form)


@router.get("/staff/erasures/{request_id}")
async def show_request(request: Request, ctx: StaffCtx, request_id: UUID) -> Response:
    return await _one(request, ctx, request_id)


@router.post("/staff/erasures/{request_id}/verify")
async def verify(request: Request, ctx: StaffCtx, request_id: UUID) -> Response:
    form = await Form.parse(Reason, request, prefix="verify")
    if form.valid:
        try:
            await actions.verify(ctx, request_id, form.data.reason)
        except (Forbidden, Conflict) as error:
            form.refuse(error)
        else:
            flash(request, "Checked. It begins tomorrow; until then the person can take it back.")
            return redirect(request, f"{HOME}/{request_id}")
    return await _one(request, ctx, request_id, verifying=form)


@router.post("/staff/erasures/{request_id}/refuse")
async def refuse(request: Request, ctx: StaffCtx, request_id: UUID) -> Response:
    form = await Form.parse(Reason, request, prefix="refuse")
    if form.valid:
        try:
            await actions.refuse(ctx, request_id, form.data.reason)
        except Conflict as error:
            form.refuse(error)
        else:
            flash(request, "Refused. The person gets a mail.")
            return redirect(request, f"{HOME}/{request_id}")
    return await _one(request, ctx, request_id, refusing=form)


async def _list(request: Request, ctx: Context, page: PageRequest, form: Form[Enter]) -> Response:
    return render(request, "erasure/staff/list.html", found=await queries.list_requests(ctx, page), form=form)


async def _one(
    request: Request,
    ctx: Context,
    request_id: UUID,
    *,
    verifying: Form[Reason] | None = None,
    refusing: Form[Reason] | None = None,
) -> Response:
    found, steps = await queries.get_request(ctx, request_id)
    waits, here = found.state is State.REQUESTED, f"{HOME}/{request_id}"
    why = await staff_reasons.given(ctx, here, account=found.user_id) if waits else ""
    return render(
        request,
        "erasure/staff/one.html",
        found=found,
        steps=steps,
        waits=waits,
        why=why,
        say_why=f"/staff/reasons?next={here}",
        mine=found.requested_by == ctx.user_id,
        verifying=verifying or Form(Reason, prefix="verify"),
        refusing=refusing or Form(Reason, prefix="refuse"),
    )
