"""For staff: entering a person's account; who had emergency rights, what they did, and what a colleague says."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Request, Response

from service.core.context import Context
from service.core.errors import Conflict, NotFound
from service.features.support import actions, queries
from service.features.support.schemas import ActsWanted, Review, VisitStart
from service.guardrails import sessions, staff_reasons
from service.guardrails.contexts import StaffCtx
from service.web.banners import remember_visit
from service.web.forms import Form
from service.web.responses import HOME, redirect
from service.web.staff import ORGANIZATION, Act, Column, Detail, Listing
from service.web.staff_home import why
from service.web.staff_lists import OfPerson
from service.web.templating import render

router = APIRouter()

GRANTS = "/staff/break-glass"
BADGES = {"open": "danger", "to be reviewed": "warning", "to be confirmed": "warning", "reviewed": "success"}
STAFF = (
    Listing(
        GRANTS,
        "Break-glass",
        queries.list_grants,
        wanted=OfPerson,
        columns=(
            Column("Opened", "opened_at", link="/staff/break-glass/{id}"),
            Column("For", "user_id", link="/staff/people/{user_id}", kind="break"),
            Column("Name", "person", personal=True),
            Column("Reason", "reason", personal=True, kind="break"),
            Column("State", "state", badges=BADGES),
        ),
        lead="Who had emergency rights, and whether a colleague has looked into it. They are opened from a shell, for "
        "an hour at most.",
        empty=(
            "Nobody has needed them",
            "Should nobody of staff be able to come in: python -m service break-glass open EMAIL. It wakes whoever is "
            "on call.",
        ),
        order=90,
        item="grant_id",
    ),
    Detail(GRANTS, "Emergency rights", queries.get_grant, "support/grant.html"),
    Act(
        GRANTS, "review", "Review", actions.review_break_glass, form=Review,
        hint="By a colleague: somebody else than whoever had the rights. An alert stays on until then, also when a "
        "shell has noted a review: whoever is named there confirms it here, in their own words.",
        done="Reviewed. The alert ends by itself.",
        applies=lambda grant: not grant.is_open and grant.reviewed_at is None,
    ),
    Listing(
        "/staff/break-glass-acts",
        "Done under emergency rights",
        queries.list_acts,
        wanted=ActsWanted,
        columns=(
            Column("When", "at"),
            Column("What", "action", kind="break"),
            Column("Outcome", "outcome", badges={"denied": "warning", "failed": "warning", "refused": "warning"}),
            ORGANIZATION,
            Column("Reason", "reason", personal=True, kind="break"),
            Column("Details", "details", kind="break"),
        ),
        lead="From the audit log, the newest first: what was done, or which pages of the panel were opened.",
        empty=("Nothing was done", "The rights were opened, and nothing was done with them."),
        on_home=False,
    ),
)  # fmt: skip


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
