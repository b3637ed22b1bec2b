"""How people rise, fall and go. Whoever gives or takes much power proves who they are first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from service.core.context import Context
from service.core.errors import Conflict
from service.features.organizations.actions._shared import (
    get_member,
    insist_on_an_owner,
    lock_organization,
    lock_successor,
    refuse_above_own,
)
from service.features.organizations.models import Membership
from service.guardrails.actions import action
from service.guardrails.permissions import Role, demand

before_removal: list[Callable[[Context, UUID], Awaitable[None]]] = []
"""Features that end what the person (by id) could go on using from outside. Called in the removal's transaction."""


@action("organizations.transfer", requires=Role.OWNER, step_up=True, while_unpaid=True)
async def transfer_ownership(ctx: Context, membership_id: UUID) -> Membership:
    """Somebody else becomes owner and the asking person admin."""
    await lock_successor(ctx, membership_id)
    await lock_organization(ctx)
    successor = await get_member(ctx, Membership.id == membership_id)
    mine = await get_member(ctx, Membership.user_id == ctx.user_id)
    if successor.id == mine.id:
        raise Conflict("You are the owner already.", mend="Choose somebody else.")
    successor.role, mine.role = Role.OWNER, Role.ADMIN
    ctx.facts |= {"to": str(successor.user_id), "from": str(mine.user_id)}
    return successor


@action("organizations.leave", requires=Role.VIEWER, while_unpaid=True)
async def leave_organization(ctx: Context) -> Membership:
    await lock_organization(ctx)
    mine = await get_member(ctx, Membership.user_id == ctx.user_id)
    await ctx.db.delete(mine)
    await insist_on_an_owner(ctx)
    return mine


@action("organizations.change_role", requires=Role.ADMIN)
async def change_role(ctx: Context, membership_id: UUID, role: Role) -> Membership:
    """Nobody gives more than they have, and only an owner touches an owner."""
    if role is Role.OWNER:
        await lock_successor(ctx, membership_id)
    await lock_organization(ctx)
    membership = await get_member(ctx, Membership.id == membership_id)
    refuse_above_own(ctx, membership.role, role)
    demand(ctx, "organizations.change_role", Role.ADMIN, step_up=role >= Role.ADMIN or membership.role is Role.OWNER)
    membership.role = role
    await insist_on_an_owner(ctx)
    return membership


@action("organizations.remove_member", requires=Role.ADMIN, while_unpaid=True)
async def remove_member(ctx: Context, membership_id: UUID) -> Membership:
    """Ends at the person's next request: who belongs is asked on every one."""
    await lock_organization(ctx)
    membership = await get_member(ctx, Membership.id == membership_id)
    refuse_above_own(ctx, membership.role)
    demand(ctx, "organizations.remove_member", Role.ADMIN, step_up=membership.role is Role.OWNER)
    for end in before_removal:
        await end(ctx, membership.user_id)
    await ctx.db.delete(membership)
    await insist_on_an_owner(ctx)
    return membership
