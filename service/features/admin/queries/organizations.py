"""One organization, as staff who help it see it: its plan, how much of it is used, its people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, literal_column, select

from service.core import clock
from service.core.context import Access, Context
from service.core.errors import NotFound
from service.core.statements import Prepared
from service.features.admin.queries.people import HOLD
from service.features.organizations.models import Membership, Organization
from service.guardrails import entitlements
from service.guardrails.actions import query
from service.guardrails.permissions import Role, Who

MOST_PEOPLE = 50
ORGANIZATION = Prepared(
    select(Organization.id, Organization.name, Organization.region, Organization.created_at, Organization.deleted_at)
    .where(Organization.id == bindparam("id")),
    include_deleted=True,
)  # fmt: skip
PEOPLE = Prepared(
    select(Membership.user_id, Membership.role, Membership.created_at)
    .where(Membership.organization_id == bindparam("id"))
    .order_by(Membership.id)
    .limit(literal_column(str(MOST_PEOPLE))),
    across_tenants=True,
    include_deleted=True,
)


@dataclass(frozen=True, slots=True)
class OrganizationView:
    organization: Any
    plan: str
    read_only: bool
    usage: list[tuple[str, int, int]]
    """(what, how much is used, how much the plan allows)"""
    people: list[Any]
    hold: Any


@query("admin.get_organization", requires=Who.STAFF)
async def get_organization(ctx: Context, organization_id: UUID) -> OrganizationView:
    """Acts for it from here on, to count what it has. Raises NotFound."""
    row = await ctx.fetch_one(ORGANIZATION, id=organization_id)
    if row is None:
        raise NotFound("There is no such organization.")
    people = await ctx.fetch(PEOPLE, id=organization_id)
    hold = await ctx.fetch_one(HOLD, id=organization_id)
    await ctx.work.act_for(tenant=organization_id, user=ctx.user_id)
    ctx.organization_id, ctx.role = organization_id, Role.VIEWER
    held = await entitlements.of(ctx)
    usage = [
        (feature.value.replace("_", " "), await count(ctx), held.limits.get(feature, 0))
        for feature, (count, _) in sorted(entitlements.COUNTERS.items())
    ]
    ctx.organization_id = ctx.role = None
    return OrganizationView(row, held.plan, held.access(clock.now()) is Access.READ_ONLY, usage, people, hold)
