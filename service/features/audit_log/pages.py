"""The log's page and its download."""

from __future__ import annotations

from collections.abc import AsyncIterator
from operator import itemgetter
from typing import Annotated, Literal
from urllib.parse import urlencode

import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from service.features.audit_log import queries
from service.features.audit_log.schemas import Entry, Filters, describe
from service.guardrails.contexts import Ctx
from service.guardrails.pagination import PageRequest
from service.guardrails.permissions import Role
from service.guardrails.rate_limits import EXPORT, limit
from service.web.forms import Form
from service.web.sheet import cut, harmless, lines
from service.web.templating import NavItem, render

router = APIRouter()

NAV = [NavItem("Audit log", "/audit-log", "shield", order=70, requires=Role.OWNER, group="Organization")]
COLUMNS = tuple(Entry.model_fields)


class FilterForm(Filters, extra="forbid"):
    """The filters as the page's form."""


@router.get("/audit-log")
async def show_log(request: Request, ctx: Ctx, page: PageRequest) -> Response:
    """Nothing while the filters are wrong: all of it would pass for what was asked."""
    form = Form.from_query(FilterForm, request)
    wanted = form.data if form.valid else Filters()
    entries = await queries.list_entries(ctx, wanted, page) if form.valid else None
    actions = [(name, describe(name)) for name in await queries.list_actions(ctx)]
    return render(
        request,
        "audit_log/log.html",
        entries=entries,
        wanted=wanted,
        check=await queries.get_last_check(ctx),
        form=form,
        actions=[("", "Anything"), *sorted(((name, text.capitalize()) for name, text in actions), key=itemgetter(1))],
        asked=urlencode(wanted.model_dump(mode="json", exclude_none=True)),
    )


@router.get("/audit-log/export/{form}")
@limit(EXPORT)
async def export_log(
    request: Request, ctx: Ctx, wanted: Annotated[Filters, Query()], form: Literal["csv", "json"]
) -> Response:
    batches = await queries.export_entries(ctx, wanted)
    body, media = (_csv(batches), "text/csv; charset=utf-8") if form == "csv" else (_json(batches), "application/json")
    return StreamingResponse(
        body, media_type=media, headers={"Content-Disposition": f'attachment; filename="audit-log.{form}"'}
    )


async def _csv(batches: AsyncIterator[list[Entry]]) -> AsyncIterator[str]:
    yield lines([COLUMNS])
    async for batch in batches:
        yield lines([[_cell(value) for value in _values(entry)] for entry in batch] or [[cut(queries.MOST_EXPORTED)]])


async def _json(batches: AsyncIterator[list[Entry]]) -> AsyncIterator[bytes]:
    start = b"["
    async for batch in batches:
        for entry in batch:
            yield start + orjson.dumps(entry.model_dump(mode="json"))
            start = b",\n"
        if not batch:
            yield start + orjson.dumps({"cut": cut(queries.MOST_EXPORTED)})
    yield b"]\n" if start != b"[" else b"[]\n"


def _values(entry: Entry) -> list[object]:
    values = entry.model_dump(mode="json")
    return [values[name] for name in COLUMNS]


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return harmless(text)
