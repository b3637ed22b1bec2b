"""Every message Stripe sent: what became of it, what it changed, and having it count again."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlencode
from uuid import UUID

import orjson
from fastapi import Path, Request, Response
from pydantic import Field

from service.core.context import Context
from service.features.billing import actions, queries
from service.features.billing.admin._shared import CUSTOMERS, INBOX, REFUSALS, Why, router
from service.features.billing.queries.staff import Filters
from service.guardrails.contexts import StaffCtx
from service.guardrails.inbox import State
from service.guardrails.pagination import PageRequest, Position
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import redirect
from service.web.templating import render

MessageId = Annotated[int, Path(ge=1, lt=2**63)]


class FilterForm(Filters, extra="forbid"):
    """The filters as the page's form."""


class MessageAct(Why):
    act: Literal["read", "replay", "discard"]


class Link(Why):
    organization: UUID = Field(title="Organization", description="Its id, as the customer's people see it.")


@router.get("/staff/billing/inbox")
async def list_messages(request: Request, ctx: StaffCtx, page: PageRequest) -> Response:
    return await _inbox(request, ctx, Form(Why), page)


@router.post("/staff/billing/inbox")
async def replay_messages(request: Request, ctx: StaffCtx) -> Response:
    """Whatever the filters in the address show."""
    form, filters = await Form.parse(Why, request), Form.from_query(FilterForm, request)
    if form.valid and not (filters.valid and filters.data.values()):
        form.add_error("reason", "Choose with the filters what to replay; everybody at once is on the first page.")
    if form.valid:
        try:
            count = await actions.replay(ctx, filters.data, form.data.reason)
        except REFUSALS as error:
            form.refuse(error)
        else:
            flash(request, f"{count:,} messages are part of the next reading of their customers.")
            return redirect(request, f"{INBOX}?{_asked(filters.data)}")
    return await _inbox(request, ctx, form, Position())


@router.get("/staff/billing/inbox/{message_id}")
async def show_message(request: Request, ctx: StaffCtx, message_id: MessageId) -> Response:
    return await _message(request, ctx, message_id)


@router.post("/staff/billing/inbox/{message_id}")
async def act_on_message(request: Request, ctx: StaffCtx, message_id: MessageId) -> Response:
    form = await Form.parse(MessageAct, request)
    if form.valid:
        act, reason = form.data.act, form.data.reason
        try:
            if act == "read":
                found = await actions.read_body(ctx, message_id, reason)
                return await _message(request, ctx, message_id, body=found.row.open_body())
            if act == "replay":
                await actions.replay(ctx, Filters(), reason, only=message_id)
            else:
                await actions.discard(ctx, message_id, reason)
        except REFUSALS as error:
            form.refuse(error)
        else:
            flash(request, "It is part of the next reading." if act == "replay" else "It is left alone from now on.")
            return redirect(request, f"{INBOX}/{message_id}")
    return await _message(request, ctx, message_id, form=form)


@router.post("/staff/billing/inbox/{message_id}/link")
async def link_customer(request: Request, ctx: StaffCtx, message_id: MessageId) -> Response:
    form = await Form.parse(Link, request, prefix="link")
    if form.valid:
        try:
            customer_id = await actions.link(ctx, message_id, form.data.organization, form.data.reason)
        except REFUSALS as error:
            form.refuse(error)
        else:
            flash(request, "Linked. What had waited for it is being read.")
            return redirect(request, f"{CUSTOMERS}/{customer_id}")
    return await _message(request, ctx, message_id, link=form)


async def _inbox(request: Request, ctx: Context, form: Form[Why], page: Position) -> Response:
    filters = Form.from_query(FilterForm, request)
    messages = await queries.list_messages(ctx, filters.data, page) if filters.valid else None
    asked = _asked(filters.data) if filters.valid else ""
    states = [("", "Any"), *((state.value, state.value.capitalize()) for state in State)]
    more: dict[str, Any] = {"messages": messages, "filters": filters, "asked": asked, "states": states}
    return render(request, "billing/staff/inbox.html", form=form, **more)


async def _message(
    request: Request,
    ctx: Context,
    message_id: int,
    *,
    body: bytes | None = None,
    form: Form[MessageAct] | None = None,
    link: Form[Link] | None = None,
) -> Response:
    found = await queries.get_message(ctx, message_id)
    shown: dict[str, Any] = {"found": found, "row": found.row, "body": readable(body)}
    form, link = form or Form(MessageAct), link or Form(Link, prefix="link")
    return render(request, "billing/staff/message.html", form=form, link=link, **shown)


def _asked(wanted: Filters) -> str:
    return urlencode(wanted.model_dump(mode="json", exclude_none=True))


def readable(body: bytes | None) -> tuple[str, str] | None:
    """(as it came, laid out for reading); the second is empty for what is no JSON."""
    if body is None:
        return None
    text = body.decode("utf-8", "replace")
    try:
        return text, orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        return text, ""
