"""How people come: a place is kept for an address, and whoever proves to own the address takes it."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import exists, func, select
from sqlalchemy.exc import IntegrityError

from service.core.context import Context
from service.core.errors import Conflict, Forbidden, NotFound
from service.core.ids import new_id
from service.features.accounts.models import User
from service.features.organizations import queries
from service.features.organizations.actions._shared import act_in, lock_organization, lock_person, refuse_above_own
from service.features.organizations.models import Invitation, Membership, Organization, hash_token
from service.features.organizations.schemas import InvitationCreate
from service.guardrails.actions import action
from service.guardrails.entitlements import Feature, NotInPlan, counted
from service.guardrails.permissions import Role, Who, demand
from service.guardrails.rate_limits import INVITATION, spend

MOST_OPEN_INVITATIONS = 100
WAITING = select(func.count()).where(Invitation.accepted_at.is_(None), Invitation.revoked_at.is_(None))


@counted(Feature.SEATS, "remove a member or withdraw an invitation")
async def _count_seats(ctx: Context) -> int:
    """An invitation keeps a seat from the moment it is sent, or ten could be accepted where one is left."""
    members = select(func.count()).select_from(Membership).join(User, User.id == Membership.user_id)
    return (await ctx.db.scalar(members) or 0) + (await ctx.db.scalar(WAITING) or 0)


@action("organizations.invite", requires=Role.ADMIN)
async def invite(ctx: Context, given: InvitationCreate) -> Invitation:
    """Keep a place for an address for seven days; the link goes there by mail and works for it alone, once."""
    await lock_organization(ctx)
    refuse_above_own(ctx, given.role)
    demand(ctx, "organizations.invite", Role.ADMIN, step_up=given.role >= Role.ADMIN)
    if await ctx.db.scalar(select(exists().where(Membership.user_id == User.id, User.email == given.email))):
        taken = "This person is already a member."
        raise Conflict(taken, fields={"email": taken}, mend="Change their role on the members page instead.")
    if (await ctx.db.scalar(WAITING) or 0) >= MOST_OPEN_INVITATIONS:
        raise Conflict(f"{MOST_OPEN_INVITATIONS} invitations are waiting.", mend="Revoke those no longer needed.")
    await spend(ctx.resources, INVITATION, subject=given.email)
    await ctx.allow(Feature.SEATS)
    invitation = Invitation(id=new_id(), email=given.email, role=given.role, invited_by=ctx.user_id, sendings=0)
    invitation.renew()
    ctx.add(invitation)
    try:
        await ctx.db.flush()
    except IntegrityError as error:
        if "uq_invitations_open_address" not in str(error.orig):
            raise
        waits = "An invitation for this address is already waiting."
        raise Conflict(waits, fields={"email": waits}, mend="Send it again, or revoke it first.") from error
    return invitation


@action("organizations.resend_invitation", requires=Role.ADMIN)
async def resend_invitation(ctx: Context, invitation_id: UUID) -> Invitation:
    """A new link for seven more days, in the name of whoever sends it; the old one stops working."""
    invitation = await ctx.get(Invitation, invitation_id)
    refuse_above_own(ctx, invitation.role)
    demand(ctx, "organizations.resend_invitation", Role.ADMIN, step_up=invitation.role >= Role.ADMIN)
    invitation.refuse_when_settled()
    await spend(ctx.resources, INVITATION, subject=invitation.email)
    invitation.renew()
    invitation.invited_by = ctx.user_id
    return invitation


@action("organizations.revoke_invitation", requires=Role.ADMIN, while_unpaid=True)
async def revoke_invitation(ctx: Context, invitation_id: UUID) -> Invitation:
    invitation = await ctx.get(Invitation, invitation_id)
    invitation.revoke()
    return invitation


@action("organizations.accept_invitation", requires=Who.SIGNED_IN)
async def accept_invitation(ctx: Context, token: str) -> Membership:
    """Take the place that was kept, as the person it was kept for; the rest of this transaction acts there."""
    hashed = hash_token(token)
    await ctx.fetch(queries.SHOW_TOKEN, token=hashed.hex())
    found = await ctx.fetch_one(queries.BY_TOKEN, token_hash=hashed)
    if found is None:
        raise NotFound("This invitation does not exist, or a newer one replaced it.", mend="Ask for a new one.")
    user = await lock_person(ctx)
    if user.email != found["email"]:
        ctx.deny("organizations.accept_invitation")
        raise Forbidden(
            "This invitation was sent to another e-mail address than yours.",
            mend="Log in with that address, or ask for an invitation to this one.",
        )
    if not user.is_verified:
        raise Forbidden(
            "Your e-mail address is not verified yet.", mend="Follow the link in the mail we sent you first."
        )
    await act_in(ctx, found["organization_id"], None)
    organization = await ctx.get(Organization, found["organization_id"])
    invitation = await ctx.get(Invitation, found["id"])
    if await ctx.db.scalar(select(exists().where(Membership.user_id == user.id))):
        raise Conflict(
            f"You are already a member of {organization.name}.", mend="Switch to it on your organizations page."
        )
    invitation.accept()
    try:
        await ctx.allow(Feature.SEATS)  # the seat that the invitation kept is free from here on
    except NotInPlan as error:  # what the plan is, and what it owes, is for those who belong
        room = "Ask whoever invited you to make room, then follow the link again."
        raise Conflict(f"{organization.name} has no free seat right now.", mend=room) from error
    inviter = select(Membership.role).join(User, User.id == Membership.user_id)
    backing = await ctx.db.scalar(inviter.where(Membership.user_id == invitation.invited_by))
    if (backing or Role.VIEWER) < max(Role.ADMIN, invitation.role):  # or removed admins bring their friends in
        raise Conflict("This invitation was withdrawn.", mend="Ask for a new invitation.")
    membership = Membership(user_id=user.id, role=invitation.role)
    ctx.add(membership)
    ctx.role, user.last_organization_id = invitation.role, organization.id
    return membership
