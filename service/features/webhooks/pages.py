"""Pages of the endpoints and their log. Not under /webhooks/: there other people's programs talk to us."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import orjson
from fastapi import APIRouter, Request, Response

from service.core import clock
from service.core.context import Context
from service.core.errors import Conflict, Invalid
from service.features.webhooks import actions, queries
from service.features.webhooks.flows.address import insist_on_reachable
from service.features.webhooks.models import GIVE_UP_AFTER, OVERLAP, Progress
from service.features.webhooks.schemas import (
    EndpointForm,
    EndpointUpdate,
    EventType,
    Filters,
    Range,
    box_of,
)
from service.guardrails.actions import allow
from service.guardrails.contexts import Ctx
from service.guardrails.pagination import PageRequest, Position
from service.guardrails.permissions import Role
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import redirect
from service.web.templating import NavItem, render

router = APIRouter()

HOME, LOG = "/webhook-endpoints", "/webhook-deliveries"
NAV = [NavItem("Webhooks", HOME, "send", order=82, requires=Role.ADMIN, group="Developers")]
BOXES = [box_of(one) for one in EventType]
STATES = [("", "Any"), *((state.value, state.value.capitalize()) for state in Progress)]


@router.get(HOME)
async def list_endpoints(request: Request, ctx: Ctx, page: PageRequest, deleted: bool = False) -> Response:
    found = await (queries.list_deleted_endpoints if deleted else queries.list_endpoints)(ctx, page)
    return render(request, "webhooks/list.html", found=found, deleted=deleted)


@router.get(f"{HOME}/new")
async def new_endpoint(request: Request, ctx: Ctx) -> Response:
    allow(ctx, actions.create_endpoint)
    form = Form(EndpointForm, dict.fromkeys(BOXES, True))
    return render(request, "webhooks/form.html", form=form, boxes=BOXES, endpoint=None)


@router.post(f"{HOME}/new")
async def create_endpoint(request: Request, ctx: Ctx) -> Response:
    allow(ctx, actions.create_endpoint)
    form = await Form.parse(EndpointForm, request)
    if await _is_right(ctx, form):
        try:
            endpoint = await actions.create_endpoint(ctx, form.data.given())
        except Conflict as error:
            form.refuse(error)
        else:
            flash(request, "Created. Copy its signing secret, then send a test event.", "success")
            return redirect(request, f"{HOME}/{endpoint.id}")
    return render(request, "webhooks/form.html", form=form, boxes=BOXES, endpoint=None)


@router.get(f"{HOME}/{{endpoint_id}}")
async def show_endpoint(request: Request, ctx: Ctx, endpoint_id: UUID, page: PageRequest) -> Response:
    return await _show(request, ctx, endpoint_id, page)


@router.get(f"{HOME}/{{endpoint_id}}/edit")
async def edit_endpoint(request: Request, ctx: Ctx, endpoint_id: UUID) -> Response:
    allow(ctx, actions.update_endpoint)
    endpoint = await queries.get_endpoint(ctx, endpoint_id)
    shown = {**endpoint.model_dump(), **{box_of(one): True for one in endpoint.event_types}}
    return render(request, "webhooks/form.html", form=Form(EndpointForm, shown), boxes=BOXES, endpoint=endpoint)


@router.post(f"{HOME}/{{endpoint_id}}/edit")
async def update_endpoint(request: Request, ctx: Ctx, endpoint_id: UUID) -> Response:
    allow(ctx, actions.update_endpoint)
    endpoint = await queries.get_endpoint(ctx, endpoint_id)
    form = await Form.parse(EndpointForm, request)
    if await _is_right(ctx, form):
        await actions.update_endpoint(ctx, endpoint_id, EndpointUpdate(**form.data.given().model_dump()))
        flash(request, "Saved.", "success")
        return redirect(request, f"{HOME}/{endpoint_id}")
    return render(request, "webhooks/form.html", form=form, boxes=BOXES, endpoint=endpoint)


@router.post(f"{HOME}/{{endpoint_id}}/secret")
async def show_secret(request: Request, ctx: Ctx, endpoint_id: UUID) -> Response:
    secret = await actions.show_secret(ctx, endpoint_id)
    return await _show(request, ctx, endpoint_id, Position(), secret=secret)


@router.post(f"{HOME}/{{endpoint_id}}/rotate")
async def rotate_secret(request: Request, ctx: Ctx, endpoint_id: UUID) -> Response:
    told = "There is a new secret. Until tomorrow the old one signs as well, so change it in your receiver today."
    return await _act(request, ctx, actions.rotate_secret, endpoint_id, told)


@router.post(f"{HOME}/{{endpoint_id}}/pause")
async def pause_endpoint(request: Request, ctx: Ctx, endpoint_id: UUID) -> Response:
    told = "Paused. What happens meanwhile waits, for up to 30 days."
    return await _act(request, ctx, actions.pause_endpoint, endpoint_id, told)


@router.post(f"{HOME}/{{endpoint_id}}/enable")
async def enable_endpoint(request: Request, ctx: Ctx, endpoint_id: UUID) -> Response:
    return await _act(request, ctx, actions.enable_endpoint, endpoint_id, "Active. What waited is sent now.")


@router.post(f"{HOME}/{{endpoint_id}}/test")
async def send_test(request: Request, ctx: Ctx, endpoint_id: UUID) -> Response:
    told = "A test event is on its way; reload to see the answer."
    return await _act(request, ctx, actions.send_test, endpoint_id, told)


@router.post(f"{HOME}/{{endpoint_id}}/delete")
async def delete_endpoint(request: Request, ctx: Ctx, endpoint_id: UUID) -> Response:
    await actions.delete_endpoint(ctx, endpoint_id)
    flash(request, "Deleted. It can be restored for 7 days.", "success")
    return redirect(request, f"{HOME}?deleted=true")


@router.post(f"{HOME}/{{endpoint_id}}/restore")
async def restore_endpoint(request: Request, ctx: Ctx, endpoint_id: UUID) -> Response:
    told, back = "Restored, as it was.", f"{HOME}?deleted=true"
    return await _act(request, ctx, actions.restore_endpoint, endpoint_id, told, refused=back)


@router.post(f"{HOME}/{{endpoint_id}}/replay")
async def replay_range(request: Request, ctx: Ctx, endpoint_id: UUID) -> Response:
    allow(ctx, actions.replay_range)
    form = await Form.parse(Range, request, prefix="again")
    if form.valid:
        try:
            count = await actions.replay_range(ctx, endpoint_id, form.data)
        except Conflict as error:
            form.refuse(error)
        else:
            flash(request, f"{count:,} {'message is' if count == 1 else 'messages are'} on the way again.")
            return redirect(request, f"{HOME}/{endpoint_id}")
    return await _show(request, ctx, endpoint_id, Position(), again=form)


@router.get(f"{LOG}/{{delivery_id}}")
async def show_delivery(request: Request, ctx: Ctx, delivery_id: UUID) -> Response:
    found = await queries.get_delivery(ctx, delivery_id)
    endpoint = await queries.get_endpoint(ctx, found.endpoint_id)
    payload = orjson.dumps(found.payload, option=orjson.OPT_INDENT_2).decode()
    return render(request, "webhooks/delivery.html", endpoint=endpoint, row=found, payload=payload)


@router.post(f"{LOG}/{{delivery_id}}/replay")
async def replay_delivery(request: Request, ctx: Ctx, delivery_id: UUID) -> Response:
    told = "It is on its way again; reload to see the answer."
    return await _act(request, ctx, actions.replay_delivery, delivery_id, told, page=LOG)


@router.post(f"{LOG}/{{delivery_id}}/skip")
async def skip_delivery(request: Request, ctx: Ctx, delivery_id: UUID) -> Response:
    told = "Given up. You can still send it again from here."
    return await _act(request, ctx, actions.skip_delivery, delivery_id, told, page=LOG)


async def _act(
    request: Request,
    ctx: Context,
    verb: Callable[..., Awaitable[Any]],
    identifier: UUID,
    told: str,
    *,
    page: str = HOME,
    refused: str = "",
) -> Response:
    """Do it and go back to where the button was, which says why when it cannot be done."""
    try:
        await verb(ctx, identifier)
    except Conflict as error:
        flash(request, f"{error.detail} {error.mend}", "danger")
        return redirect(request, refused or f"{page}/{identifier}")
    flash(request, told, "success")
    return redirect(request, f"{page}/{identifier}")


async def _is_right(ctx: Context, form: Form[Any]) -> bool:
    """Valid, at least one event, and an address that we would send to now."""
    if form.valid and not any(getattr(form.data, box) for box in BOXES):
        form.add_error("", "Choose at least one event.")
    if form.valid:
        try:
            await insist_on_reachable(ctx, form.data.url)
        except Invalid as error:
            form.refuse(error)
    return form.valid


async def _show(
    request: Request,
    ctx: Context,
    endpoint_id: UUID,
    page: Position,
    *,
    secret: str = "",
    again: Form[Range] | None = None,
) -> Response:
    endpoint = await queries.get_endpoint(ctx, endpoint_id)
    filters = Form.from_query(Filters, request)
    state = filters.data.state if filters.valid else None
    deliveries = await queries.list_deliveries(ctx, endpoint_id, page, state=state) if filters.valid else None
    now = clock.now()
    day = {
        "since": f"{now - timedelta(days=1):%Y-%m-%dT%H:%M}",
        "until": f"{now + timedelta(minutes=1):%Y-%m-%dT%H:%M}",
    }
    return render(
        request,
        "webhooks/endpoint.html",
        endpoint=endpoint,
        deliveries=deliveries,
        filters=filters,
        states=STATES,
        asked=urlencode({"state": state.value}) if state else "",
        again=again or Form(Range, day, prefix="again"),
        secret=secret,
        overlaps=endpoint.old_secret_until is not None and endpoint.old_secret_until > now,
        days=GIVE_UP_AFTER.days,
        hours=OVERLAP // timedelta(hours=1),
    )
