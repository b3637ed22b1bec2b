"""Pages: the organization's keys, a new one, its secret once, a new secret for an old one."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response

from service.core import clock
from service.core.context import Context
from service.core.errors import Conflict, Forbidden, Invalid, StepUpRequired
from service.core.schemas import Input
from service.features.api_keys import actions, queries
from service.features.api_keys.schemas import KeyCreate, KeyRotate, Lasts, Minted, Overlap, describe, key_form
from service.guardrails.actions import allow
from service.guardrails.contexts import Ctx
from service.guardrails.entitlements import NotInPlan
from service.guardrails.pagination import PageRequest
from service.guardrails.permissions import Role
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import redirect
from service.web.templating import NavItem, render

router = APIRouter()

NAV = [NavItem("API keys", "/api-keys", "key", order=80, requires=Role.ADMIN, group="Developers")]


@router.get("/api-keys")
async def list_keys(request: Request, ctx: Ctx, page: PageRequest) -> Response:
    keys = await queries.list_keys(ctx, page)
    return render(request, "api_keys/list.html", keys=keys, describe=describe, now=clock.now())


@router.get("/api-keys/new")
async def new_key(request: Request, ctx: Ctx) -> Response:
    allow(ctx, actions.create_key)
    return _new(request, ctx, Form(key_form(_offered(ctx)), {"lasts": Lasts.QUARTER}))


@router.post("/api-keys/new")
async def create_key(request: Request, ctx: Ctx) -> Response:
    allow(ctx, actions.create_key)
    scopes = _offered(ctx)
    form: Form[Input] = await Form.parse(key_form(scopes), request)
    if form.valid:
        typed = form.data.model_dump()
        chosen = [scope for scope in scopes if typed.pop(scope)]
        if not chosen:
            form.add_error(scopes[0], "Choose at least one thing that the key may do.")
        else:
            try:
                return _show(request, await actions.create_key(ctx, KeyCreate(**typed, scopes=chosen)))
            except (Conflict, Invalid) as error:
                form.refuse(error)
    return _new(request, ctx, form)


@router.get("/api-keys/{key_id}/rotation")
async def ask_for_rotation(request: Request, ctx: Ctx, key_id: UUID) -> Response:
    allow(ctx, actions.rotate_key)
    return await _rotation(request, ctx, key_id, Form(KeyRotate, {"overlap": Overlap.DAY}))


@router.post("/api-keys/{key_id}/rotation")
async def rotate_key(request: Request, ctx: Ctx, key_id: UUID) -> Response:
    allow(ctx, actions.rotate_key)
    form = await Form.parse(KeyRotate, request)
    if form.valid:
        try:
            return _show(request, await actions.rotate_key(ctx, key_id, form.data), form.data.overlap)
        except (StepUpRequired, NotInPlan):
            raise
        except (Conflict, Forbidden) as error:
            form.refuse(error)
    return await _rotation(request, ctx, key_id, form)


@router.post("/api-keys/{key_id}/revocation")
async def revoke_key(request: Request, ctx: Ctx, key_id: UUID) -> Response:
    try:
        key = await actions.revoke_key(ctx, key_id)
    except Conflict as error:
        flash(request, f"{error.detail} {error.mend}", "danger")
    else:
        flash(request, f"“{key.name}” is revoked: whoever uses it is refused from now on.", "success")
    return redirect(request, "/api-keys")


def _offered(ctx: Context) -> list[str]:
    return queries.offered(Role(ctx.role or Role.VIEWER))


def _new(request: Request, ctx: Context, form: Form[Any]) -> Response:
    lasts = [lasts.value for lasts in Lasts]
    return render(request, "api_keys/new.html", form=form, scopes=_offered(ctx), lasts=lasts)


def _show(request: Request, minted: Minted, overlap: Overlap = Overlap.NONE) -> Response:
    """The answer to the POST itself: a redirect would need the secret kept somewhere. Never cached (no-store)."""
    return render(request, "api_keys/shown.html", minted=minted, overlap=overlap.span and overlap.value)


async def _rotation(request: Request, ctx: Context, key_id: UUID, form: Form[KeyRotate]) -> Response:
    key = await queries.get_key(ctx, key_id)
    return render(request, "api_keys/rotation.html", key=key, form=form, overlaps=[one.value for one in Overlap])
