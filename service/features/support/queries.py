"""Reads: whether a visit may go on, whom staff may visit, and who has visited."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import bindparam, select
from sqlalchemy.orm import aliased

from service.core import clock
from service.core.context import Context, Login
from service.core.errors import NotFound
from service.core.statements import Prepared, context_tenant, context_user
from service.features.accounts.models import User
from service.features.organizations.models import Membership, Organization
from service.features.support.models import SupportVisit
from service.features.support.schemas import Place, Target, VisitRead
from service.guardrails import purposes
from service.guardrails.actions import query
from service.guardrails.impersonation import Visit
from service.guardrails.pagination import Keyset, Page, PageRequest, paginate
from service.guardrails.permissions import Role, Who

MOST_PLACES = 50
STAFF = aliased(User, name="staff")

RUNNING = Prepared(
    select(STAFF.name.label("staff_name"), User.name, User.email, SupportVisit.reason, SupportVisit.ends_at)
    .join(STAFF, STAFF.id == SupportVisit.staff_id)
    .join(User, User.id == SupportVisit.person_id)
    .join(Organization, Organization.id == SupportVisit.organization_id)
    .where(
        SupportVisit.id == bindparam("id"),
        SupportVisit.person_id == context_user(),
        SupportVisit.ended_at.is_(None),
        SupportVisit.ends_at > bindparam("now"),
        STAFF.is_staff,
        STAFF.session_epoch == bindparam("epoch"),
        Organization.support_access,
    )
)
PERSON = Prepared(
    select(User.id, User.name, User.email, User.email_verified_at, User.is_staff).where(User.id == bindparam("id"))
)
PLACES = Prepared(
    select(Organization.id, Organization.name, Membership.role, Organization.support_access)
    .join(Membership, Membership.organization_id == Organization.id)
    .where(Membership.user_id == context_user())
    .order_by(Organization.id)
    .limit(MOST_PLACES),
    across_tenants=True,
)
ACCESS = Prepared(select(Organization.support_access).where(Organization.id == context_tenant()))
VISITS = Keyset(
    select(
        SupportVisit.id,
        User.name.label("person"),
        SupportVisit.reason,
        SupportVisit.began_at,
        SupportVisit.ended_at,
    ).outerjoin(User, User.id == SupportVisit.person_id),
    order=(SupportVisit.id.desc(),),
)


@query("support.running", requires=Who.ANYONE)
async def get_running_visit(ctx: Context, login: Login) -> Visit | None:
    """Asked at each request of a visit: the record is open, the staff still are staff and logged in, access allowed."""
    assert login.support is not None  # noqa: S101 - guardrails.impersonation asks for visits only
    support = login.support
    row = await ctx.fetch_one(RUNNING, id=support.visit_id, epoch=support.staff_epoch, now=clock.now())
    if row is None or not await purposes.permits(ctx.work.raw, None, login.user_id):
        return None
    return Visit(row["staff_name"], row["name"] or row["email"], row["reason"], row["ends_at"])


@query("support.target", requires=Who.STAFF)
async def get_target(ctx: Context, person_id: UUID) -> Target:
    """The person and their organizations, read as they see them."""
    row = await ctx.fetch_one(PERSON, id=person_id)
    if row is None:
        raise NotFound("There is no such person.")
    mine = ctx.work.tenant, ctx.work.user
    await ctx.work.act_for(tenant=None, user=person_id)
    places = [
        Place(place["id"], place["name"], place["role"], place["support_access"]) for place in await ctx.fetch(PLACES)
    ]
    await ctx.work.act_for(tenant=mine[0], user=mine[1])
    problem = ""
    if row["is_staff"]:
        problem = "They are staff themselves. Nobody acts as a colleague."
    elif not await purposes.permits(ctx.work.raw, None, person_id):
        problem = "The use of their data is restricted, so nobody looks at them."
    elif row["email_verified_at"] is None:
        problem = "Their address was never confirmed, so nobody has used this account yet."
    elif not any(place.allowed for place in places):
        problem = "They belong to no organization that lets support in. Its owner can allow it under Settings."
    return Target(person_id, row["name"] or "Somebody without a name", problem, places)


@query("support.access", requires=Role.OWNER)
async def is_allowed(ctx: Context) -> bool:
    row = await ctx.fetch_one(ACCESS)
    return row is not None and bool(row["support_access"])


@query("support.visits", requires=Role.OWNER)
async def list_visits(ctx: Context, page: PageRequest) -> Page[VisitRead]:
    """Newest first."""
    return await paginate(ctx, VISITS, page, VisitRead)
