"""The list of news behind the bell, and the page where a person says which they want."""

from __future__ import annotations

from uuid import UUID

from fastapi import Request, Response

from service.features.accounts.queries import get_account
from service.features.notifications import actions, queries
from service.features.notifications.pages._shared import router
from service.features.notifications.schemas import CHANNELS, ChannelChange
from service.guardrails.contexts import Ctx, UserCtx
from service.guardrails.pagination import PageRequest
from service.guardrails.permissions import Role
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import etag, not_modified, redirect, safe_path
from service.web.templating import Count, NavItem, render

REFRESH_SECONDS = 60
UNREAD = Count("/notifications/unread", queries.count_unread)
NAV = [NavItem("Notifications", "/notifications", "bell", order=15, requires=Role.VIEWER, count=UNREAD)]


@router.get("/notifications")
async def list_notifications(request: Request, ctx: Ctx, page: PageRequest) -> Response:
    return render(request, "notifications/list.html", found=await queries.list_notifications(ctx, page))


@router.get("/notifications/unread")
async def show_unread(request: Request, ctx: Ctx) -> Response:
    """What the bell asks once a minute: 304 while the number is the same."""
    unread = await queries.count_unread(ctx)
    tag = etag(request, unread, ctx.user_id)
    if unchanged := not_modified(request, tag, poll_seconds=REFRESH_SECONDS):
        return unchanged
    return render(
        request, "notifications/unread.html", fragment="count", headers={"ETag": tag}, unread=unread, etag=tag
    )


@router.post("/notifications/read")
async def read_all(request: Request, ctx: Ctx) -> Response:
    await actions.read_all_notifications(ctx)
    return redirect(request, "/notifications")


@router.post("/notifications/{notification_id}/read")
async def open_notification(request: Request, ctx: Ctx, notification_id: UUID) -> Response:
    """Read it, and go to what it is about."""
    found = await actions.read_notification(ctx, notification_id)
    return redirect(request, safe_path(found.href, default="/notifications"))


@router.get("/account/notifications")
async def show_choices(request: Request, ctx: UserCtx) -> Response:
    return await _choices(request, ctx)


@router.post("/account/notifications/{kind}")
async def choose(request: Request, ctx: UserCtx, kind: str) -> Response:
    form = await Form.parse(ChannelChange, request, prefix=kind)
    if form.valid:
        await actions.choose_channel(ctx, kind, form.data.channel)
        flash(request, "Saved.")
        return redirect(request, "/account/notifications")
    return await _choices(request, ctx, form)


async def _choices(request: Request, ctx: UserCtx, form: Form[ChannelChange] | None = None) -> Response:
    """Each kind has a form, which bears its name; the given one shows what was wrong."""
    choices = await queries.list_choices(ctx)
    forms = {
        one.kind.name: Form(ChannelChange, {"channel": one.channel.value}, prefix=one.kind.name) for one in choices
    }
    if form and form.prefix in forms:
        forms[form.prefix] = form
    return render(
        request,
        "notifications/choices.html",
        choices=choices,
        forms=forms,
        form=form,
        channels=CHANNELS,
        account=await get_account(ctx),
    )
