"""Rate limits: what is counted for an address, an account, an organization or a key, and letting them try again."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response

from service.core.context import Context
from service.core.errors import Invalid
from service.features.admin import actions, queries
from service.features.admin.pages._shared import HOME, REFUSALS, router
from service.features.admin.schemas import LimitsOf, LimitsReset, LimitsSearch
from service.guardrails import limit_lookup, staff_reasons
from service.guardrails.contexts import StaffCtx
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import redirect
from service.web.staff_home import why
from service.web.templating import render

LIMITS = f"{HOME}/rate-limits"
KINDS = [("address", "Address"), ("account", "Account"), ("organization", "Organization"), ("key", "API key")]
PERSONAL = ("address", "account")
"""Whose counts tell what one person does, and whence."""


@router.get("/staff/rate-limits")
async def show_limits(request: Request, ctx: StaffCtx) -> Response:
    return await _page(request, ctx, Form(LimitsReset), Form.from_query(LimitsSearch, request))


@router.post("/staff/rate-limits")
async def reset_limits(request: Request, ctx: StaffCtx) -> Response:
    """Of whom the address says, as the list above the form does."""
    form, search = await Form.parse(LimitsReset, request), Form.from_query(LimitsSearch, request)
    if search.valid and not search.data.q:
        search.add_error("q", "Look up first whose limits are meant.")
    if form.valid and search.valid:
        try:
            if not await _may_tell(ctx, search.data, await queries.limits_of(ctx, search.data)):
                return await _page(request, ctx, form, search)
            count = await actions.reset_limits(ctx, search.data, form.data)
        except REFUSALS as error:
            form.refuse(error)
        else:
            flash(request, f"{count} {'count begins' if count == 1 else 'counts begin'} anew. They can try at once.")
            return redirect(request, f"{LIMITS}?{_asked(search.data)}")
    return await _page(request, ctx, form, search)


async def _page(request: Request, ctx: Context, form: Form[LimitsReset], search: Form[LimitsSearch]) -> Response:
    shown: dict[str, Any] = {"counted": None, "whose": "", "asked": "", "why": ""}
    if search.valid and search.data.q:
        try:
            found = await queries.limits_of(ctx, search.data)
            if await _may_tell(ctx, search.data, found):
                counted = await limit_lookup.look(ctx.resources, found.known)
                shown |= {"counted": counted, "whose": found.whose, "asked": _asked(search.data)}
            else:
                search.add_error("q", "What is counted for one person takes a reason: say why first.")
                shown["why"] = why(LIMITS, _asked(search.data))
        except Invalid as error:
            search.refuse(error)
    names = [("", "Every limit"), *((name, name) for name in sorted({one.policy for one in shown["counted"] or ()}))]
    return render(
        request, "admin/limits.html", search=search, form=form, kinds=KINDS, names=names, here=LIMITS, **shown
    )


async def _may_tell(ctx: Context, wanted: LimitsSearch, found: LimitsOf) -> bool:
    """Of a person or their address for a reason alone; a look is noted, with whose account it was."""
    return wanted.kind not in PERSONAL or bool(await staff_reasons.given(ctx, LIMITS, account=found.account))


def _asked(wanted: LimitsSearch) -> str:
    return urlencode(wanted.model_dump())
