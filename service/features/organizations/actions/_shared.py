"""What several actions do in the same way: point at an organization, lock what decides who belongs."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import ColumnElement, func, select

from service.core.context import Context
from service.core.errors import Conflict, Forbidden, NotFound
from service.features.accounts.models import User
from service.features.organizations.models import Membership, Organization
from service.guardrails.permissions import Role


async def act_in(ctx: Context, organization_id: UUID, role: Role | None) -> None:
    """Point the rest of the transaction, row-level security and the audit trail at another organization."""
    await ctx.work.act_for(tenant=organization_id, user=ctx.user_id)
    ctx.organization_id, ctx.role = organization_id, role


async def lock_organization(ctx: Context) -> Organization:
    """The acting organization, locked. Raises Conflict when the asking person's role changed while this waited."""
    organization = await ctx.get(Organization, ctx.tenant)
    # Two owners who demote each other at once: the second waits here, and is no owner any more when it goes on.
    if await ctx.db.scalar(select(Membership.role).where(Membership.user_id == ctx.user_id)) != ctx.role:
        raise Conflict("Your role has just changed.")
    return organization


async def lock_person(ctx: Context) -> User:
    return await ctx.get(User, ctx.user_id)


async def lock_successor(ctx: Context, membership_id: UUID) -> None:
    """Nobody becomes owner while their account is being deleted. The person before the organization, as there."""
    await ctx.get(User, (await get_member(ctx, Membership.id == membership_id)).user_id)


async def get_member(ctx: Context, which: ColumnElement[bool]) -> Membership:
    found = await ctx.db.scalar(select(Membership).join(User, User.id == Membership.user_id).where(which))
    if found is None:
        raise NotFound("There is no such member.")
    return found


async def insist_on_an_owner(ctx: Context) -> None:
    """Raise Conflict if the change leaves the organization without an owner who can still log in."""
    owners = select(func.count()).select_from(Membership).join(User, User.id == Membership.user_id)
    if not await ctx.db.scalar(owners.where(Membership.role == Role.OWNER)):
        raise Conflict(
            "An organization needs an owner.", mend="Transfer the ownership first, or delete the organization."
        )


def refuse_above_own(ctx: Context, *roles: Role) -> None:
    if any(ctx.role is None or role > ctx.role for role in roles):
        ctx.deny("organizations.above_own_role")
        raise Forbidden("You can neither give nor change a role above your own.", mend="Ask an owner to do it.")
