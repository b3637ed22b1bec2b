"""For staff: which addresses mail does not go to, letting it go there again, and which events nobody understood."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from service.core.context import Context
from service.core.errors import Conflict
from service.features.notifications import actions, queries
from service.features.notifications.schemas import Lift
from service.guardrails import mailing
from service.guardrails.contexts import StaffCtx
from service.guardrails.pagination import PageRequest, Position
from service.web.dead_letters import DeadLetters
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import redirect
from service.web.staff_home import StaffPage
from service.web.templating import render

router = APIRouter()
STAFF_PAGES = [StaffPage("Mail", "/staff/mail", "Whether mail leaves, and the addresses that it does not go to.", 40)]
DEAD_LETTERS = [
    DeadLetters(
        "mail-events",
        "Events about mail",
        "What SendGrid told us and five attempts could not make sense of: an address may have bounced unnoticed.",
        "MailLate",
        queries.count_dead_events,
        queries.list_dead_events,
        actions.replay_events,
        actions.discard_events,
    )
]


@router.get("/staff/mail")
async def show_mail(
    request: Request, ctx: StaffCtx, page: PageRequest, q: Annotated[str, Query(max_length=254)] = ""
) -> Response:
    return await _page(request, ctx, page, q)


@router.post("/staff/mail/{suppression_id}/lift")
async def lift(request: Request, ctx: StaffCtx, suppression_id: UUID) -> Response:
    form = await Form.parse(Lift, request, prefix=f"s{suppression_id}")
    if form.valid:
        try:
            await actions.lift_suppression(ctx, suppression_id, form.data.reason)
        except Conflict as error:
            form.refuse(error)
        else:
            flash(request, "Lifted. Mail goes there again as soon as the provider has forgotten it, too.")
            return redirect(request, "/staff/mail")
    return await _page(request, ctx, Position(), "", form)


async def _page(request: Request, ctx: Context, page: PageRequest, q: str, form: Form[Lift] | None = None) -> Response:
    """Each suppression has a form, which bears its id; the given one shows what was wrong."""
    found = await queries.list_suppressions(ctx, q, page)
    forms = {f"s{one.id}": Form(Lift, prefix=f"s{one.id}") for one in found.items}
    if form:
        forms[form.prefix] = form
    late = await mailing.late_since(ctx)
    dead = await queries.count_dead_events(ctx)
    return render(request, "notifications/staff.html", found=found, forms=forms, form=form, q=q, late=late, dead=dead)
