"""Pages of the indicators: the dashboard, one indicator with its chart and table, the list, the bin."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from service.core import clock
from service.core.errors import Conflict, Invalid
from service.features.indicators import actions, queries
from service.features.indicators.models import Step
from service.features.indicators.schemas import (
    IndicatorCreate,
    IndicatorUpdate,
    Moment,
    Period,
    ReadingCorrection,
    ReadingForm,
)
from service.guardrails import feature_flags
from service.guardrails.actions import allow, may
from service.guardrails.contexts import Ctx, PublicCtx
from service.guardrails.feature_flags import Flag
from service.guardrails.pagination import PageRequest
from service.guardrails.permissions import Role
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import etag, not_modified, redirect
from service.web.templating import NavItem, render

router = APIRouter()

NAV = [
    NavItem("Dashboard", "/dashboard", "gauge", order=10, requires=Role.VIEWER),
    NavItem("Indicators", "/indicators", "chart", order=20, requires=Role.VIEWER, group="Data"),
    NavItem("Bin", "/bin", "trash", order=36, requires=Role.MEMBER, group="Data"),
]

RANGES = {
    "day": ("24 hours", timedelta(days=1), Step.HOUR),
    "week": ("7 days", timedelta(days=7), Step.HOUR),
    "month": ("30 days", timedelta(days=30), Step.DAY),
    "quarter": ("90 days", timedelta(days=90), Step.DAY),
    "year": ("1 year", timedelta(days=365), Step.WEEK),
}
DAY = "%-d %b %Y"


@router.get("/")
async def home(request: Request, ctx: PublicCtx) -> Response:
    return redirect(request, "/dashboard")


@router.get("/dashboard")
async def dashboard(request: Request, ctx: Ctx) -> Response:
    """The poll asks here too: 304 while nothing changed, only the tiles when something did."""
    version, total = await queries.dashboard_version(ctx)
    ranges = await feature_flags.is_on(ctx, Flag.TILE_RANGE)
    tag = etag(request, version, ctx.user_id, ctx.role, ranges)
    if unchanged := not_modified(request, tag, poll_seconds=queries.REFRESH_SECONDS):
        return unchanged
    board = await queries.get_dashboard(ctx)
    return render(
        request,
        "indicators/dashboard.html",
        fragment="tiles",
        headers={"ETag": tag},
        board=board,
        total=total,
        ranges=ranges,
        etag=tag,
        can=may(ctx, actions.create_indicator),
    )


@router.get("/indicators")
async def list_indicators(
    request: Request, ctx: Ctx, page: PageRequest, q: Annotated[str, Query(max_length=200)] = "", archived: bool = False
) -> Response:
    if q:
        found = await queries.search_indicators(ctx, q, page)
    else:
        found = await queries.list_indicators(ctx, page, archived=archived)
    return render(
        request,
        "indicators/list.html",
        fragment="results",
        found=found,
        q=q,
        archived=archived,
        can=may(ctx, actions.create_indicator),
    )


@router.get("/indicators/new")
async def new_indicator(request: Request, ctx: Ctx) -> Response:
    allow(ctx, actions.create_indicator)
    return render(request, "indicators/new.html", form=Form(IndicatorCreate))


@router.post("/indicators/new")
async def create_indicator(request: Request, ctx: Ctx) -> Response:
    allow(ctx, actions.create_indicator)
    form = await Form.parse(IndicatorCreate, request)
    if form.valid:
        try:
            indicator = await actions.create_indicator(ctx, form.data)
        except (Conflict, Invalid) as error:
            form.refuse(error)
        else:
            flash(request, f"“{indicator.name}” is ready. Add its first reading.", "success")
            return redirect(request, f"/indicators/{indicator.id}")
    return render(request, "indicators/new.html", form=form)


@router.get("/indicators/{indicator_id}")
async def show_indicator(
    request: Request, ctx: Ctx, indicator_id: UUID, page: PageRequest, period: str = "month"
) -> Response:
    return await _show(request, ctx, indicator_id, page, Form(ReadingForm), period)


@router.post("/indicators/{indicator_id}/readings")
async def add_reading(request: Request, ctx: Ctx, indicator_id: UUID, page: PageRequest) -> Response:
    allow(ctx, actions.append_reading)
    form = await Form.parse(ReadingForm, request)
    if form.valid:
        try:
            stored = await actions.append_reading(ctx, indicator_id, form.data.reading())
        except (Conflict, Invalid) as error:
            form.refuse(error)
        else:
            flash(request, "Reading added." if stored.added else "This reading was there already.", "success")
            return redirect(request, f"/indicators/{indicator_id}")
    return await _show(request, ctx, indicator_id, page, form)


@router.get("/indicators/{indicator_id}/readings/{at}")
async def edit_reading(request: Request, ctx: Ctx, indicator_id: UUID, at: Moment) -> Response:
    allow(ctx, actions.correct_reading)
    indicator = await queries.get_indicator(ctx, indicator_id)
    reading = await queries.get_reading(ctx, indicator_id, at)
    form = Form(ReadingCorrection, {"value": reading.value})
    return render(request, "indicators/reading.html", indicator=indicator, at=at, form=form)


@router.post("/indicators/{indicator_id}/readings/{at}")
async def correct_reading(request: Request, ctx: Ctx, indicator_id: UUID, at: Moment) -> Response:
    allow(ctx, actions.correct_reading)
    form = await Form.parse(ReadingCorrection, request)
    if form.valid:
        try:
            await actions.correct_reading(ctx, indicator_id, at, form.data.value)
        except (Conflict, Invalid) as error:
            form.refuse(error)
        else:
            flash(request, "Reading corrected.", "success")
            return redirect(request, f"/indicators/{indicator_id}")
    indicator = await queries.get_indicator(ctx, indicator_id)
    return render(request, "indicators/reading.html", indicator=indicator, at=at, form=form)


@router.get("/indicators/{indicator_id}/edit")
async def edit_indicator(request: Request, ctx: Ctx, indicator_id: UUID) -> Response:
    allow(ctx, actions.update_indicator)
    indicator = await queries.get_indicator(ctx, indicator_id)
    form = Form(IndicatorCreate, indicator.model_dump())
    return render(request, "indicators/edit.html", indicator=indicator, form=form)


@router.post("/indicators/{indicator_id}/edit")
async def update_indicator(request: Request, ctx: Ctx, indicator_id: UUID) -> Response:
    allow(ctx, actions.update_indicator)
    # The whole state: for the API's model a field that is left out stays, so an emptied one could not be emptied.
    form = await Form.parse(IndicatorCreate, request)
    if form.valid:
        try:
            await actions.update_indicator(ctx, indicator_id, IndicatorUpdate(**form.data.model_dump()))
        except (Conflict, Invalid) as error:
            form.refuse(error)
        else:
            flash(request, "Saved.", "success")
            return redirect(request, f"/indicators/{indicator_id}")
    indicator = await queries.get_indicator(ctx, indicator_id)
    return render(request, "indicators/edit.html", indicator=indicator, form=form)


@router.post("/indicators/{indicator_id}/archive")
async def archive_indicator(request: Request, ctx: Ctx, indicator_id: UUID) -> Response:
    await actions.archive_indicator(ctx, indicator_id)
    flash(request, "Archived. It keeps its readings and takes no new ones.", "success")
    return redirect(request, f"/indicators/{indicator_id}")


@router.post("/indicators/{indicator_id}/unarchive")
async def unarchive_indicator(request: Request, ctx: Ctx, indicator_id: UUID) -> Response:
    await actions.unarchive_indicator(ctx, indicator_id)
    flash(request, "Back from the archive.", "success")
    return redirect(request, f"/indicators/{indicator_id}")


@router.post("/indicators/{indicator_id}/delete")
async def delete_indicator(request: Request, ctx: Ctx, indicator_id: UUID) -> Response:
    indicator = await actions.delete_indicator(ctx, indicator_id)
    flash(request, f"“{indicator.name}” is in the bin for 30 days.", "success")
    return redirect(request, "/bin")


@router.get("/bin")
async def show_bin(request: Request, ctx: Ctx, page: PageRequest) -> Response:
    found = await queries.list_deleted_indicators(ctx, page)
    return render(request, "indicators/bin.html", found=found)


@router.post("/indicators/{indicator_id}/restore")
async def restore_indicator(request: Request, ctx: Ctx, indicator_id: UUID) -> Response:
    indicator = await actions.restore_indicator(ctx, indicator_id)
    flash(request, f"“{indicator.name}” is back, with all its readings.", "success")
    return redirect(request, f"/indicators/{indicator.id}")


async def _show(
    request: Request, ctx: Ctx, indicator_id: UUID, page: PageRequest, form: Form[ReadingForm], period: str = "month"
) -> Response:
    """The days that were asked for; while they are wrong, or none were, one of the ranges up to now."""
    period = period if period in RANGES else "month"
    label, width, step = RANGES[period]
    until, detail, asked = clock.now(), None, {"period": period}
    since = until - width
    shown = {"since": since.date(), "until": until.date(), "step": step.value}
    chosen = Form.from_query(Period, request, shown, prefix="p")
    if chosen.valid:
        first, end = chosen.data.bounds()
        try:
            detail = await queries.get_detail(ctx, indicator_id, page, since=first, until=end, step=chosen.data.step)
        except Invalid as error:
            chosen.refuse(error)
        else:
            label, asked = f"{first:{DAY}} to {chosen.data.until:{DAY}}", chosen.data.model_dump(mode="json")
    if detail is None:
        detail = await queries.get_detail(ctx, indicator_id, page, since=since, until=until, step=step)
    return render(
        request,
        "indicators/detail.html",
        fragment="chart" if request.method == "GET" else None,  # what is wrong with a form stands elsewhere
        indicator=detail.indicator,
        source_id=detail.source_id,
        chart=detail.chart,
        readings=detail.readings,
        form=form,
        chosen=chosen,
        asked=urlencode(asked),
        label=label,
        can=may(ctx, actions.update_indicator),
        ranges=[(name, text) for name, (text, _, _) in RANGES.items()],
        steps=[(step.value, step.value.capitalize()) for step in Step],
    )
