"""Pages: choose or make an organization, its settings, its people, and the page behind an invitation's link."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response

from service.core import clock
from service.core.context import Context
from service.core.errors import Conflict, Forbidden, Invalid, StepUpRequired, TooManyRequests
from service.features.organizations import actions, queries
from service.features.organizations.schemas import (
    ROLES,
    DeletionConfirmation,
    InvitationCreate,
    OrganizationCreate,
    OrganizationName,
    OrganizationRead,
    RoleChange,
)
from service.guardrails import sessions
from service.guardrails.actions import allow, may
from service.guardrails.contexts import Ctx, PublicCtx, UserCtx
from service.guardrails.entitlements import NotInPlan
from service.guardrails.pagination import PageRequest
from service.guardrails.permissions import Role
from service.guardrails.rate_limits import INVITATION, TOKEN, limit
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import HOME, redirect
from service.web.templating import NavItem, render

router = APIRouter()

NAV = [
    NavItem("Members", "/members", "users", order=50, requires=Role.VIEWER, group="Organization"),
    NavItem("Settings", "/organization", "building", order=60, requires=Role.VIEWER, group="Organization"),
]

MEMBERS, INVITATIONS = "/members", "/members/invitations"
SECRET_ADDRESS = {"Referrer-Policy": "no-referrer"}
"""The link's token must not travel to wherever the reader goes next."""


@router.get("/organizations")
async def list_organizations(request: Request, ctx: UserCtx, page: PageRequest) -> Response:
    mine = await queries.list_organizations(ctx, page)
    values = await _waiting(ctx)
    return render(request, "organizations/list.html", mine=mine, current=ctx.organization_id, **values)


@router.get("/organizations/new")
async def new_organization(request: Request, ctx: UserCtx) -> Response:
    return await _new(request, ctx, Form(OrganizationCreate, {"region": ctx.settings.home_region}))


@router.post("/organizations/new")
async def create_organization(request: Request, ctx: UserCtx) -> Response:
    form = await Form.parse(OrganizationCreate, request)
    if form.valid:
        try:
            organization = await actions.create_organization(ctx, form.data.name, form.data.region)
        except (Conflict, Invalid) as error:
            form.refuse(error)
        else:
            flash(request, f"{organization.name} is ready. Invite your colleagues, or look around first.")
            return await _go_to(request, ctx, organization.id, HOME)
    return await _new(request, ctx, form)


@router.post("/organizations/{organization_id}/switch")
async def switch_organization(request: Request, ctx: UserCtx, organization_id: UUID) -> Response:
    organization = await actions.switch_organization(ctx, organization_id)
    flash(request, f"You are now working in {organization.name}.", "info")
    return await _go_to(request, ctx, organization.id, HOME)


@router.post("/organizations/{organization_id}/restoration")
async def restore_organization(request: Request, ctx: UserCtx, organization_id: UUID) -> Response:
    organization = await actions.restore_organization(ctx, organization_id)
    flash(request, f"{organization.name} is back, with its people and everything it had.")
    return await _go_to(request, ctx, organization.id, HOME)


@router.get("/organization")
async def show_settings(request: Request, ctx: Ctx) -> Response:
    organization = await queries.get_current_organization(ctx)
    form = Form(OrganizationName, {"name": organization.name})
    return _settings(request, ctx, organization, form)


@router.post("/organization")
async def rename_organization(request: Request, ctx: Ctx) -> Response:
    allow(ctx, actions.rename_organization)
    form = await Form.parse(OrganizationName, request)
    if form.valid:
        await actions.rename_organization(ctx, form.data.name)
        flash(request, "Saved.")
        return redirect(request, "/organization")
    organization = await queries.get_current_organization(ctx)
    return _settings(request, ctx, organization, form)


@router.post("/organization/departure")
async def leave_organization(request: Request, ctx: Ctx) -> Response:
    try:
        await actions.leave_organization(ctx)
    except Conflict as error:
        flash(request, f"{error.detail} {error.mend}", "danger")
        return redirect(request, "/organization")
    flash(request, "You have left the organization.")
    return await _go_to(request, ctx, None, "/organizations")


@router.get("/organization/deletion")
async def confirm_deletion(request: Request, ctx: Ctx) -> Response:
    allow(ctx, actions.delete_organization)
    organization = await queries.get_current_organization(ctx)
    return render(request, "organizations/deletion.html", current=organization, form=Form(DeletionConfirmation))


@router.post("/organization/deletion")
async def delete_organization(request: Request, ctx: Ctx) -> Response:
    allow(ctx, actions.delete_organization)
    form = await Form.parse(DeletionConfirmation, request)
    if form.valid:
        try:
            organization = await actions.delete_organization(ctx, form.data.name)
        except Invalid as error:
            form.refuse(error)
        else:
            flash(request, f"{organization.name} is deleted. Its owners can restore it here for 30 days.")
            return await _go_to(request, ctx, None, "/organizations")
    found = await queries.get_current_organization(ctx)
    return render(request, "organizations/deletion.html", current=found, form=form)


@router.get("/members")
async def list_members(request: Request, ctx: Ctx, page: PageRequest) -> Response:
    return await _members(request, ctx, page)


@router.post("/members/{membership_id}/role")
async def change_role(request: Request, ctx: Ctx, membership_id: UUID, page: PageRequest) -> Response:
    allow(ctx, actions.change_role)
    form = await Form.parse(RoleChange, request, prefix=str(membership_id))
    if not form.valid:
        return await _members(request, ctx, page, form)
    done = f"The role is now {form.data.role.label}."
    return await _attempt(request, ctx, actions.change_role, membership_id, form.data.role, done=done)


@router.post("/members/{membership_id}/removal")
async def remove_member(request: Request, ctx: Ctx, membership_id: UUID) -> Response:
    done = "Removed. They can no longer see anything of this organization, and API keys that they held are revoked."
    return await _attempt(request, ctx, actions.remove_member, membership_id, done=done)


@router.post("/members/{membership_id}/ownership")
async def transfer_ownership(request: Request, ctx: Ctx, membership_id: UUID) -> Response:
    done = "The ownership is transferred; you are now an admin."
    return await _attempt(request, ctx, actions.transfer_ownership, membership_id, done=done)


@router.get("/members/invitations")
async def list_invitations(request: Request, ctx: Ctx, page: PageRequest) -> Response:
    return await _invitations(request, ctx, page, Form(InvitationCreate, {"role": Role.MEMBER.label}))


@router.post("/members/invitations")
@limit(INVITATION)
async def invite(request: Request, ctx: Ctx, page: PageRequest) -> Response:
    allow(ctx, actions.invite)
    form = await Form.parse(InvitationCreate, request)
    if form.valid:
        try:
            invitation = await actions.invite(ctx, form.data)
        except (StepUpRequired, NotInPlan):
            raise
        except (Conflict, Forbidden, TooManyRequests) as error:
            form.refuse(error)
        else:
            flash(request, f"An invitation is on its way to {invitation.email}. It works for 7 days.")
            return redirect(request, INVITATIONS)
    return await _invitations(request, ctx, page, form)


@router.post("/members/invitations/{invitation_id}/resend")
@limit(INVITATION)
async def resend_invitation(request: Request, ctx: Ctx, invitation_id: UUID) -> Response:
    done = "Sent again, with a new link; the old one no longer works."
    return await _attempt(request, ctx, actions.resend_invitation, invitation_id, done=done, to=INVITATIONS)


@router.post("/members/invitations/{invitation_id}/revocation")
async def revoke_invitation(request: Request, ctx: Ctx, invitation_id: UUID) -> Response:
    done = "The invitation is withdrawn; its link no longer works."
    return await _attempt(request, ctx, actions.revoke_invitation, invitation_id, done=done, to=INVITATIONS)


@router.get("/invitations/{token}")
@limit(TOKEN)
async def show_invitation(request: Request, ctx: PublicCtx, token: str) -> Response:
    """Public, because the person invited may not have an account yet."""
    invitation = await queries.get_invitation(ctx, token)
    return render(request, "organizations/invitation.html", headers=SECRET_ADDRESS, invitation=invitation)


@router.get("/invitations/{token}/acceptance")
@limit(TOKEN)
async def confirm_invitation(request: Request, ctx: UserCtx, token: str) -> Response:
    """Joining needs a click: the previews and scanners that open links in mails must not accept anything."""
    invitation = await queries.get_invitation(ctx, token)
    return render(request, "organizations/join.html", headers=SECRET_ADDRESS, invitation=invitation)


@router.post("/invitations/{token}/acceptance")
@limit(TOKEN)
async def accept_invitation(request: Request, ctx: UserCtx, token: str) -> Response:
    membership = await actions.accept_invitation(ctx, token)
    flash(request, f"Welcome. You are {membership.role.label} here.")
    return await _go_to(request, ctx, membership.organization_id, HOME)


async def _new(request: Request, ctx: Context, form: Form[OrganizationCreate]) -> Response:
    regions = [(name, name.upper()) for name in ctx.settings.places]
    return render(request, "organizations/new.html", form=form, regions=regions, **await _waiting(ctx))


async def _waiting(ctx: Context) -> dict[str, Any]:
    """What may save people from making another organization: invitations, and what they deleted lately."""
    return {
        "offers": await queries.list_my_invitations(ctx),
        "deleted": await queries.list_restorable_organizations(ctx),
    }


def _settings(request: Request, ctx: Context, organization: OrganizationRead, form: Form[OrganizationName]) -> Response:
    return render(
        request,
        "organizations/settings.html",
        current=organization,
        form=form,
        can_rename=may(ctx, actions.rename_organization),
        can_delete=may(ctx, actions.delete_organization),
    )


async def _members(request: Request, ctx: Ctx, page: PageRequest, form: Form[RoleChange] | None = None) -> Response:
    """The form, if any, is that of the membership whose id is its prefix."""
    members = await queries.list_members(ctx, page)
    grantable = _grantable(ctx)
    return render(
        request, "organizations/members.html", members=members, me=ctx.user_id, grantable=grantable, form=form
    )


async def _invitations(request: Request, ctx: Ctx, page: PageRequest, form: Form[InvitationCreate]) -> Response:
    waiting = await queries.list_invitations(ctx, page)
    roles = [(label, label.capitalize()) for label in _grantable(ctx)]
    return render(request, "organizations/invitations.html", waiting=waiting, form=form, roles=roles, now=clock.now())


def _grantable(ctx: Context) -> list[str]:
    """The roles this person may give; what the page offers, the action checks again."""
    return [label for label in ROLES if ctx.role is not None and Role[label.upper()] <= ctx.role >= Role.ADMIN]


async def _attempt(
    request: Request, ctx: Context, verb: Callable[..., Awaitable[Any]], *arguments: Any, done: str, to: str = MEMBERS
) -> Response:
    """Back to the list either way: with what was done, or with why it was not."""
    allow(ctx, verb)
    try:
        await verb(ctx, *arguments)
    except (StepUpRequired, NotInPlan):
        raise  # to the confirmation and back to the list; to the plan page
    except (Conflict, Forbidden, TooManyRequests) as error:
        flash(request, f"{error.detail} {error.mend}", "danger")
    else:
        flash(request, done)
    return redirect(request, to)


async def _go_to(request: Request, ctx: Context, organization_id: UUID | None, path: str) -> Response:
    """Continue there in another organization: with a new session id, because the session's rights change."""
    assert ctx.login is not None  # noqa: S101 - only people who are logged in get here
    token, login = await sessions.rotate(ctx.resources, ctx.login, organization_id=organization_id)
    response = redirect(request, path)
    sessions.set_cookie(response, ctx.settings, token, remembered=login.remembered)
    return response
