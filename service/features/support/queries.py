"""Reads: whether a visit may go on, whom staff may visit, and who has visited."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnClause, ColumnElement, and_, bindparam, literal_column, not_, or_, select
from sqlalchemy.orm import aliased

from service.core import clock
from service.core.context import Context, Login
from service.core.errors import NotFound
from service.core.statements import Prepared, context_tenant, context_user
from service.features.accounts.models import User
from service.features.organizations.models import Membership, Organization
from service.features.support.models import SupportVisit
from service.features.support.schemas import ActRead, ActsWanted, GrantRead, Place, Target, VisitRead
from service.guardrails import purposes
from service.guardrails.actions import query
from service.guardrails.audit import AuditRow
from service.guardrails.break_glass import MARK, BreakGlassGrant
from service.guardrails.impersonation import Visit
from service.guardrails.pagination import Keyset, Page, PageRequest, Position, paginate
from service.guardrails.permissions import Role, Who
from service.web.staff_lists import OfPerson, People

MOST_PLACES = 1_000
"""A bound, not a page: whoever is asked into more is shown the oldest."""
STAFF, REVIEWER = aliased(User, name="staff"), aliased(User, name="reviewer")

RUNNING = Prepared(
    select(
        STAFF.name.label("staff_name"),
        User.name,
        User.email,
        SupportVisit.reason,
        SupportVisit.ends_at,
        SupportVisit.emergency,
    )
    .join(STAFF, STAFF.id == SupportVisit.staff_id)
    .join(User, User.id == SupportVisit.person_id)
    .join(Organization, Organization.id == SupportVisit.organization_id)
    .where(
        SupportVisit.id == bindparam("id"),
        SupportVisit.person_id == context_user(),
        SupportVisit.ended_at.is_(None),
        User.locked_at.is_(None),
        SupportVisit.ends_at > bindparam("now"),
        STAFF.is_staff,
        or_(STAFF.staff_until.is_(None), STAFF.staff_until > bindparam("now")),
        STAFF.session_epoch == bindparam("epoch"),
        or_(Organization.support_access, and_(SupportVisit.emergency, STAFF.emergency_until > bindparam("now"))),
    )
)
PERSON = Prepared(
    select(User.id, User.name, User.email, User.email_verified_at, User.is_staff, User.locked_at).where(
        User.id == bindparam("id")
    )
)
PLACES = Prepared(
    select(Organization.id, Organization.name, Membership.role, Organization.support_access)
    .join(Membership, Membership.organization_id == Organization.id)
    .where(Membership.user_id == context_user())
    .order_by(Organization.id)
    .limit(MOST_PLACES),
    across_tenants=True,
)
_grants = (
    select(
        BreakGlassGrant.id,
        BreakGlassGrant.user_id,
        User.name.label("person"),
        BreakGlassGrant.reason,
        BreakGlassGrant.opened_at,
        BreakGlassGrant.ends_at,
        BreakGlassGrant.closed_at,
        BreakGlassGrant.recorded_at,
        BreakGlassGrant.reviewed_at,
        BreakGlassGrant.review,
        REVIEWER.name.label("reviewer"),
    )
    .outerjoin(User, User.id == BreakGlassGrant.user_id)
    .outerjoin(REVIEWER, REVIEWER.id == BreakGlassGrant.reviewed_by)
)
GRANTS = People(_grants, GrantRead, person=BreakGlassGrant.user_id, key=BreakGlassGrant.id)
GRANT = Prepared(_grants.where(BreakGlassGrant.id == bindparam("id")))
UNDER_A_GRANT: ColumnClause[bool] = literal_column(f"audit_log.facts @> '{{\"{MARK}\": true}}'")
OPENED = and_(AuditRow.action == literal_column("'staff.enter'"), AuditRow.outcome == literal_column("'done'"))
"""A page of the panel was opened: as often as somebody likes, so it must not stand between the acts."""


def _listed(only: ColumnElement[bool]) -> Keyset:
    columns = (getattr(AuditRow, name) for name in ActRead.model_fields)
    span = AuditRow.id.between(bindparam("first"), bindparam("last"))
    mine = select(*columns).where(AuditRow.actor_id == bindparam("actor"), span, UNDER_A_GRANT, only)
    return Keyset(mine, order=(AuditRow.id.desc(),), across_tenants=True)


ACTS, PAGES = _listed(not_(OPENED)), _listed(OPENED)
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
    name = row["name"] or row["email"]
    return Visit(row["staff_name"], name, row["reason"], row["ends_at"], row["emergency"])


@query("support.target", requires=Who.STAFF)
async def get_target(ctx: Context, person_id: UUID) -> Target:
    """The person and their organizations, read as they see them."""
    row = await ctx.fetch_one(PERSON, id=person_id)
    if row is None:
        raise NotFound("There is no such person.")
    mine = ctx.work.tenant, ctx.work.user
    await ctx.work.act_for(tenant=None, user=person_id)
    places = [
        Place(place["id"], place["name"], place["role"], place["support_access"] or ctx.emergency)
        for place in await ctx.fetch(PLACES)
    ]
    await ctx.work.act_for(tenant=mine[0], user=mine[1])
    problem = ""
    if row["is_staff"]:
        problem = "They are staff themselves. Nobody acts as a colleague."
    elif not await purposes.permits(ctx.work.raw, None, person_id):
        problem = "The use of their data is restricted, so nobody looks at them."
    elif row["locked_at"] is not None:
        problem = "This account is locked. Nobody comes in, and neither do we."
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


@query("support.grants", requires=Who.STAFF)
async def list_grants(ctx: Context, wanted: OfPerson, page: Position) -> Page[GrantRead]:
    """Who had emergency rights, or when one person had them."""
    return await GRANTS.page(ctx, wanted, page)


@query("support.grant", requires=Who.STAFF)
async def get_grant(ctx: Context, grant_id: UUID) -> GrantRead:
    row = await ctx.fetch_one(GRANT, id=grant_id)
    if row is None:
        raise NotFound("There are no such emergency rights.")
    return GrantRead.model_validate(dict(row))


@query("support.acts", requires=Who.STAFF)
async def list_acts(ctx: Context, wanted: ActsWanted, page: Position) -> Page[ActRead]:
    """What was done under emergency rights, or which pages of the panel were opened; nothing is left out."""
    mine = select(BreakGlassGrant).order_by(BreakGlassGrant.opened_at.desc()).limit(1)
    if wanted.grant_id is not None:
        mine = select(BreakGlassGrant).where(BreakGlassGrant.id == wanted.grant_id)
    grant = await ctx.db.scalar(mine)
    if grant is None:
        return Page(items=[], has_more=False, next_cursor=None, previous_cursor=None)
    span = {"first": _id_at(grant.opened_at), "last": _id_at(grant.over_at + timedelta(milliseconds=1))}
    return await paginate(ctx, PAGES if wanted.pages else ACTS, page, ActRead, actor=grant.user_id, **span)


def _id_at(moment: datetime) -> UUID:
    """The smallest UUIDv7 of a millisecond (RFC 9562): the log's ids are in order of time, and indexed by actor."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)
