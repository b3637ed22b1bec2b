"""Writes: how organizations begin and end, and how people come, rise, fall and go.

Whatever changes who belongs locks the organization's row first. So two owners who leave at once take turns, and the
second one finds that they are the last. Whoever gives or takes much power proves who they are first.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.exc import IntegrityError

from service.core import clock
from service.core.context import Context
from service.core.errors import Conflict, Forbidden, Invalid, NotFound
from service.core.ids import new_id
from service.features.accounts import actions as accounts
from service.features.accounts.models import User
from service.features.organizations import queries
from service.features.organizations.models import RESTORE_DAYS, Invitation, Membership, Organization, hash_token
from service.features.organizations.schemas import InvitationCreate
from service.guardrails import soft_delete
from service.guardrails.actions import action
from service.guardrails.permissions import Role, Who, demand
from service.guardrails.rate_limits import INVITATION, spend

MOST_OWNED = 20
MOST_OPEN_INVITATIONS = 100


@action("organizations.create", requires=Who.SIGNED_IN)
async def create_organization(ctx: Context, name: str) -> Organization:
    """A new organization with the asking person as its owner, in which the rest of this transaction acts."""
    user = await _lock_person(ctx)
    owned = select(func.count()).where(Membership.user_id == user.id, Membership.role == Role.OWNER)
    if (await ctx.db.scalar(owned.execution_options(across_tenants=True)) or 0) >= MOST_OWNED:
        raise Conflict(f"You already own {MOST_OWNED} organizations.", mend="Delete one, or hand one over.")
    organization = Organization(id=new_id(), name=name)
    await _act_in(ctx, organization.id, Role.OWNER)
    ctx.add(organization)
    await ctx.db.flush()
    ctx.add(Membership(user_id=user.id, role=Role.OWNER))
    user.last_organization_id = organization.id
    return organization


@action("organizations.switch", requires=Who.SIGNED_IN)
async def switch_organization(ctx: Context, organization_id: UUID) -> Organization:
    """Act for another of one's organizations from now on. Somebody else's and a random id answer alike."""
    user = await _lock_person(ctx)
    mine = select(Membership).where(Membership.organization_id == organization_id, Membership.user_id == user.id)
    membership = await ctx.db.scalar(mine.execution_options(across_tenants=True))
    if membership is None:
        raise NotFound("There is no such organization.")
    await _act_in(ctx, organization_id, membership.role)
    organization = await ctx.get(Organization, organization_id, lock=False)
    user.last_organization_id = organization.id
    return organization


@action("organizations.rename", requires=Role.ADMIN)
async def rename_organization(ctx: Context, name: str) -> Organization:
    organization = await _lock_organization(ctx)
    organization.name = name
    return organization


@action("organizations.transfer", requires=Role.OWNER, step_up=True)
async def transfer_ownership(ctx: Context, membership_id: UUID) -> Membership:
    """Somebody else becomes owner and the asking person admin."""
    await _lock_successor(ctx, membership_id)
    await _lock_organization(ctx)
    successor = await _get_member(ctx, Membership.id == membership_id)
    mine = await _get_member(ctx, Membership.user_id == ctx.user_id)
    if successor.id == mine.id:
        raise Conflict("You are the owner already.", mend="Choose somebody else.")
    successor.role, mine.role = Role.OWNER, Role.ADMIN
    ctx.facts |= {"to": str(successor.user_id), "from": str(mine.user_id)}
    return successor


@action("organizations.leave", requires=Role.VIEWER)
async def leave_organization(ctx: Context) -> Membership:
    await _lock_organization(ctx)
    mine = await _get_member(ctx, Membership.user_id == ctx.user_id)
    await ctx.db.delete(mine)
    await _insist_on_an_owner(ctx)
    return mine


@action("organizations.delete", requires=Role.OWNER, step_up=True)
async def delete_organization(ctx: Context, typed_name: str) -> Organization:
    """Hide it from everybody; an owner can bring it back for 30 days, then a job purges all it owned."""
    organization = await _lock_organization(ctx)
    if typed_name != organization.name:
        wrong = "This is not the name of the organization."
        raise Invalid(wrong, fields={"name": wrong})
    await soft_delete.delete(ctx, organization)
    return organization


@action("organizations.restore", requires=Who.SIGNED_IN)
async def restore_organization(ctx: Context, organization_id: UUID) -> Organization:
    """Bring a deleted organization back; only its owners may, and to all others it does not exist."""
    since = clock.now() - timedelta(days=RESTORE_DAYS)
    rows = await ctx.fetch(queries.RESTORABLE, since=since)
    if organization_id not in {row["id"] for row in rows}:
        raise NotFound("There is no such organization.", mend=f"A deleted one can be restored for {RESTORE_DAYS} days.")
    user = await _lock_person(ctx)
    await _act_in(ctx, organization_id, Role.OWNER)
    organization = await soft_delete.restore(ctx, Organization, organization_id)
    user.last_organization_id = organization.id
    return organization


@action("organizations.change_role", requires=Role.ADMIN)
async def change_role(ctx: Context, membership_id: UUID, role: Role) -> Membership:
    """Nobody gives more than they have, and only an owner touches an owner."""
    if role is Role.OWNER:
        await _lock_successor(ctx, membership_id)
    await _lock_organization(ctx)
    membership = await _get_member(ctx, Membership.id == membership_id)
    _refuse_above_own(ctx, membership.role, role)
    demand(ctx, "organizations.change_role", Role.ADMIN, step_up=role >= Role.ADMIN or membership.role is Role.OWNER)
    membership.role = role
    await _insist_on_an_owner(ctx)
    return membership


@action("organizations.remove_member", requires=Role.ADMIN)
async def remove_member(ctx: Context, membership_id: UUID) -> Membership:
    """Ends at the person's next request: who belongs is asked on every one."""
    await _lock_organization(ctx)
    membership = await _get_member(ctx, Membership.id == membership_id)
    _refuse_above_own(ctx, membership.role)
    demand(ctx, "organizations.remove_member", Role.ADMIN, step_up=membership.role is Role.OWNER)
    await ctx.db.delete(membership)
    await _insist_on_an_owner(ctx)
    return membership


@action("organizations.invite", requires=Role.ADMIN)
async def invite(ctx: Context, given: InvitationCreate) -> Invitation:
    """Keep a place for an address for seven days; the link goes there by mail and works for it alone, once."""
    await _lock_organization(ctx)
    _refuse_above_own(ctx, given.role)
    demand(ctx, "organizations.invite", Role.ADMIN, step_up=given.role >= Role.ADMIN)
    if await ctx.db.scalar(select(exists().where(Membership.user_id == User.id, User.email == given.email))):
        taken = "This person is already a member."
        raise Conflict(taken, fields={"email": taken}, mend="Change their role on the members page instead.")
    waiting = select(func.count()).where(Invitation.accepted_at.is_(None), Invitation.revoked_at.is_(None))
    if (await ctx.db.scalar(waiting) or 0) >= MOST_OPEN_INVITATIONS:
        raise Conflict(f"{MOST_OPEN_INVITATIONS} invitations are waiting.", mend="Revoke those no longer needed.")
    await spend(ctx.resources, INVITATION, subject=given.email)
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
    _refuse_above_own(ctx, invitation.role)
    demand(ctx, "organizations.resend_invitation", Role.ADMIN, step_up=invitation.role >= Role.ADMIN)
    invitation.refuse_when_settled()
    await spend(ctx.resources, INVITATION, subject=invitation.email)
    invitation.renew()
    invitation.invited_by = ctx.user_id
    return invitation


@action("organizations.revoke_invitation", requires=Role.ADMIN)
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
    user = await _lock_person(ctx)
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
    await _act_in(ctx, found["organization_id"], None)
    organization = await ctx.get(Organization, found["organization_id"])
    invitation = await ctx.get(Invitation, found["id"])
    if await ctx.db.scalar(select(exists().where(Membership.user_id == user.id))):
        raise Conflict(
            f"You are already a member of {organization.name}.", mend="Switch to it on your organizations page."
        )
    invitation.accept()
    inviter = select(Membership.role).join(User, User.id == Membership.user_id)
    backing = await ctx.db.scalar(inviter.where(Membership.user_id == invitation.invited_by))
    if (backing or Role.VIEWER) < max(Role.ADMIN, invitation.role):  # or removed admins bring their friends in
        raise Conflict("This invitation was withdrawn.", mend="Ask for a new invitation.")
    membership = Membership(user_id=user.id, role=invitation.role)
    ctx.add(membership)
    ctx.role, user.last_organization_id = invitation.role, organization.id
    return membership


async def _settle_ownership(ctx: Context, user: User) -> None:
    """Before an account goes: nobody leaves others in an organization without an owner; what was theirs alone goes too.

    The locks are taken in one order, so that two accounts that go at once wait for each other and never for ever.
    """
    mine = select(Membership.organization_id).join(Organization, Organization.id == Membership.organization_id)
    mine = mine.where(Membership.user_id == user.id, Membership.role == Role.OWNER).order_by(Membership.organization_id)
    owned = (await ctx.db.scalars(mine.execution_options(across_tenants=True))).all()
    acting, stranded = ctx.work.tenant, []
    for organization_id in owned:
        await ctx.work.act_for(tenant=organization_id, user=user.id)
        organization = await ctx.get(Organization, organization_id)
        others = select(Membership.role).join(User, User.id == Membership.user_id).where(Membership.user_id != user.id)
        roles = set((await ctx.db.scalars(others.distinct())).all())
        if not roles:
            await soft_delete.delete(ctx, organization)
        elif Role.OWNER not in roles:
            stranded.append(organization.name)
    await ctx.work.act_for(tenant=acting, user=user.id)
    if stranded:
        raise Conflict(
            f"You are the only owner of {', '.join(stranded)}, and other people belong to it.",
            mend="Make one of them owner on the members page, or delete the organization first.",
        )


accounts.before_deletion.append(_settle_ownership)


async def _act_in(ctx: Context, organization_id: UUID, role: Role | None) -> None:
    """Point the rest of the transaction, row-level security and the audit trail at another organization."""
    await ctx.work.act_for(tenant=organization_id, user=ctx.user_id)
    ctx.organization_id, ctx.role = organization_id, role


async def _lock_organization(ctx: Context) -> Organization:
    """The acting organization, locked. Raises Conflict when the asking person's role changed while this waited."""
    assert ctx.organization_id is not None  # noqa: S101 - every caller requires a role
    organization = await ctx.get(Organization, ctx.organization_id)
    # Two owners who demote each other at once: the second waits here, and is no owner any more when it goes on.
    if await ctx.db.scalar(select(Membership.role).where(Membership.user_id == ctx.user_id)) != ctx.role:
        raise Conflict("Your role has just changed.")
    return organization


async def _lock_person(ctx: Context) -> User:
    return await ctx.get(User, ctx.user_id)


async def _lock_successor(ctx: Context, membership_id: UUID) -> None:
    """Nobody becomes owner while their account is being deleted. The person before the organization, as there."""
    await ctx.get(User, (await _get_member(ctx, Membership.id == membership_id)).user_id)


async def _get_member(ctx: Context, which: ColumnElement[bool]) -> Membership:
    found = await ctx.db.scalar(select(Membership).join(User, User.id == Membership.user_id).where(which))
    if found is None:
        raise NotFound("There is no such member.")
    return found


async def _insist_on_an_owner(ctx: Context) -> None:
    """Raise Conflict if the change leaves the organization without an owner who can still log in."""
    owners = select(func.count()).select_from(Membership).join(User, User.id == Membership.user_id)
    if not await ctx.db.scalar(owners.where(Membership.role == Role.OWNER)):
        raise Conflict(
            "An organization needs an owner.", mend="Transfer the ownership first, or delete the organization."
        )


def _refuse_above_own(ctx: Context, *roles: Role) -> None:
    if any(ctx.role is None or role > ctx.role for role in roles):
        ctx.deny("organizations.above_own_role")
        raise Forbidden("You can neither give nor change a role above your own.", mend="Ask an owner to do it.")
