"""How organizations begin, change and end; and what becomes of them when their owner's account goes."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from uuid import UUID

from sqlalchemy import func, select

from service.core import clock
from service.core.context import Context
from service.core.errors import Conflict, Invalid, NotFound
from service.core.ids import new_id
from service.features.accounts import actions as accounts
from service.features.accounts.models import User
from service.features.organizations import queries
from service.features.organizations.actions._shared import act_in, lock_organization, lock_person
from service.features.organizations.models import RESTORE_DAYS, Membership, Organization
from service.guardrails import soft_delete
from service.guardrails.actions import action
from service.guardrails.permissions import Role, Who
from service.guardrails.residency import Regions

MOST_OWNED = 20


@action("organizations.create", requires=Who.SIGNED_IN)
async def create_organization(ctx: Context, name: str, region: str | None = None) -> Organization:
    """A new organization with the asking person as its owner, in which the rest of this transaction acts.

    Without a region it is in the home region; it stays where it begins.
    """
    regions = ctx.resources.get(Regions)
    if region is not None and region not in regions.names:
        raise Invalid("There is no such region.", fields={"region": f"Choose one of {', '.join(regions.names)}."})
    user = await lock_person(ctx)
    owned = select(func.count()).where(Membership.user_id == user.id, Membership.role == Role.OWNER)
    if (await ctx.db.scalar(owned.execution_options(across_tenants=True)) or 0) >= MOST_OWNED:
        raise Conflict(f"You already own {MOST_OWNED} organizations.", mend="Delete one, or hand one over.")
    organization = Organization(id=new_id(), name=name, region=region or regions.home)
    await act_in(ctx, organization.id, Role.OWNER)
    ctx.add(organization)
    await ctx.db.flush()
    ctx.add(Membership(user_id=user.id, role=Role.OWNER))
    user.last_organization_id = organization.id
    return organization


@action("organizations.switch", requires=Who.SIGNED_IN)
async def switch_organization(ctx: Context, organization_id: UUID) -> Organization:
    """Act for another of one's organizations from now on. Somebody else's and a random id answer alike."""
    user = await lock_person(ctx)
    mine = select(Membership).where(Membership.organization_id == organization_id, Membership.user_id == user.id)
    membership = await ctx.db.scalar(mine.execution_options(across_tenants=True))
    if membership is None:
        raise NotFound("There is no such organization.")
    await act_in(ctx, organization_id, membership.role)
    organization = await ctx.get(Organization, organization_id, lock=False)
    user.last_organization_id = organization.id
    return organization


@action("organizations.rename", requires=Role.ADMIN)
async def rename_organization(ctx: Context, name: str) -> Organization:
    organization = await lock_organization(ctx)
    organization.name = name
    return organization


@action("organizations.delete", requires=Role.OWNER, step_up=True, while_unpaid=True)
async def delete_organization(ctx: Context, typed_name: str) -> Organization:
    """Hide it from everybody; an owner can bring it back for 30 days, then a job purges all it owned."""
    organization = await lock_organization(ctx)
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
    user = await lock_person(ctx)
    await act_in(ctx, organization_id, Role.OWNER)
    organization = await soft_delete.restore(ctx, Organization, organization_id)
    user.last_organization_id = organization.id
    return organization


async def _settle_ownership(ctx: Context, user: User, *, only_ask: bool = False) -> None:
    """Before an account goes: nobody leaves others in an organization without an owner; what was theirs alone goes too.

    `only_ask` changes nothing and raises the same. The locks are taken in one order, so that two accounts that go at
    once wait for each other and never for ever.
    """
    mine = select(Membership.organization_id).join(Organization, Organization.id == Membership.organization_id)
    mine = mine.where(Membership.user_id == user.id, Membership.role == Role.OWNER).order_by(Membership.organization_id)
    acting, asking, stranded = ctx.work.tenant, ctx.work.user, []
    await ctx.work.act_for(tenant=acting, user=user.id)
    owned = (await ctx.db.scalars(mine.execution_options(across_tenants=True))).all()
    for organization_id in owned:
        await ctx.work.act_for(tenant=organization_id, user=user.id)
        organization = await ctx.get(Organization, organization_id)
        others = select(Membership.role).join(User, User.id == Membership.user_id).where(Membership.user_id != user.id)
        roles = set((await ctx.db.scalars(others.distinct())).all())
        if not roles and not only_ask:
            await soft_delete.delete(ctx, organization)
        elif roles and Role.OWNER not in roles:
            stranded.append(organization.name)
    await ctx.work.act_for(tenant=acting, user=asking)
    if stranded:
        raise Conflict(
            f"{'You are' if ctx.person_id == user.id else 'This person is'} the only owner of {', '.join(stranded)}, "
            "and other people belong to it.",
            mend="Make one of them owner on the members page, or delete the organization first.",
        )


accounts.before_deletion.append(_settle_ownership)
accounts.obstacles.append(partial(_settle_ownership, only_ask=True))
