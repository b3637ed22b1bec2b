"""Reads: who a session's person is, what they belong to, who else does."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import and_, bindparam, func, or_, select

from service.core import clock
from service.core.context import Context, Login
from service.core.database import UnitOfWork
from service.core.errors import NotFound
from service.core.ids import uuid_in
from service.core.statements import Prepared, context_tenant, context_user, prefix
from service.features.accounts.models import User
from service.features.organizations.models import (
    RESTORE_DAYS,
    Invitation,
    Membership,
    Organization,
    hash_token,
    make_token,
    why_closed,
)
from service.features.organizations.schemas import (
    DeletedOrganizationRead,
    InvitationRead,
    InvitationView,
    MemberRead,
    MembershipListed,
    OrganizationListed,
    OrganizationRead,
    OrganizationsWanted,
)
from service.guardrails import entitlements
from service.guardrails.actions import query
from service.guardrails.contexts import Identity
from service.guardrails.entitlements import Entitlement
from service.guardrails.pagination import Keyset, Page, PageRequest, Position, paginate
from service.guardrails.permissions import Role, Who
from service.web.staff_lists import Across, OfOrganization

RESTORABLE_LIMIT = 50
OFFER_LIMIT = 20

IDENTIFY = Prepared(
    select(
        User.id.label("user_id"),
        User.name,
        User.email,
        and_(User.is_staff, or_(User.staff_until.is_(None), User.staff_until > bindparam("now"))).label("is_staff"),
        func.coalesce(User.emergency_until > bindparam("now"), False).label("emergency"),
        User.session_epoch,
        Organization.id.label("organization_id"),
        Organization.name.label("organization_name"),
        Membership.role,
        *entitlements.COLUMNS,
    )
    .outerjoin(Membership, and_(Membership.user_id == User.id, Membership.organization_id == context_tenant()))
    .outerjoin(Organization, Organization.id == Membership.organization_id)
    .outerjoin(Entitlement, Entitlement.organization_id == Organization.id)
    .where(User.id == context_user())
)
OF_THE_PERSON = tuple(name for name in Identity.__slots__ if name not in ("role", "entitlement"))
ROLES = {role.label: role for role in Role}

_mine = (
    select(Organization.id, Organization.name, Organization.region, Organization.created_at, Membership.role)
    .join(Membership, Membership.organization_id == Organization.id)
    .where(Membership.user_id == context_user())
)
MINE = Keyset(_mine, order=(Organization.id.asc(),), across_tenants=True)
REGION = Prepared(select(Organization.region).where(Organization.id == context_tenant()), include_deleted=True)
CURRENT = Prepared(
    select(Organization.id, Organization.name, Organization.region, Organization.created_at).where(
        Organization.id == context_tenant()
    )
)
RESTORABLE = Prepared(
    select(Organization.id, Organization.name, Organization.deleted_at)
    .join(Membership, Membership.organization_id == Organization.id)
    .where(
        Membership.user_id == context_user(),
        Membership.role == Role.OWNER,
        Organization.deleted_at > bindparam("since"),
    )
    .order_by(Organization.deleted_at.desc())
    .limit(RESTORABLE_LIMIT),
    across_tenants=True,
    include_deleted=True,
)
_listed = select(
    Organization.id, Organization.name, Organization.region, Organization.deleted_at, Organization.created_at
)
ORGANIZATIONS = Keyset(_listed, order=(Organization.id.desc(),), include_deleted=True)
ORGANIZATION = Keyset(
    _listed.where(Organization.id == bindparam("id")), order=(Organization.id.desc(),), include_deleted=True
)
BY_NAME = Keyset(
    _listed.where(Organization.search_name >= bindparam("low"), Organization.search_name < bindparam("high")),
    order=(Organization.search_name.asc(), Organization.id.asc()),
    include_deleted=True,
)
MEMBERS = Keyset(
    select(Membership.id, Membership.user_id, User.name, User.email, Membership.role, Membership.created_at).join(
        User, User.id == Membership.user_id
    ),
    order=(Membership.id.asc(),),
)
INVITATIONS = Keyset(
    select(Invitation.id, Invitation.email, Invitation.role, Invitation.created_at, Invitation.expires_at).where(
        Invitation.accepted_at.is_(None), Invitation.revoked_at.is_(None)
    ),
    order=(Invitation.id.desc(),),
)

SHOW_TOKEN = Prepared(select(func.set_config("app.invitation", bindparam("token"), True)))
"""Row-level security shows the one invitation whose token hash this is; before that, there is none to see."""
INVITATION = select(
    Invitation.id,
    Invitation.organization_id,
    Invitation.email,
    Invitation.role,
    Invitation.sendings,
    Invitation.expires_at,
    Invitation.accepted_at,
    Invitation.revoked_at,
    Organization.name.label("organization"),
).join(Organization, Organization.id == Invitation.organization_id)
BY_TOKEN = Prepared(INVITATION.where(Invitation.token_hash == bindparam("token_hash")), across_tenants=True)
FOR_ME = Prepared(
    INVITATION.join(User, and_(User.email == Invitation.email, User.email_verified_at.is_not(None)))
    .where(
        User.id == context_user(),
        Invitation.accepted_at.is_(None),
        Invitation.revoked_at.is_(None),
        Invitation.expires_at > bindparam("now"),
    )
    .order_by(Invitation.id.desc())
    .limit(OFFER_LIMIT),
    across_tenants=True,
)


async def identify(work: UnitOfWork, login: Login) -> Identity | None:
    """The person behind a session and their place in its organization, in one statement; None when deleted.

    A removed member or a deleted organization leaves them without an organization: they can still reach their account
    and their other organizations, and nothing of this one.
    """
    row = await work.fetch_one(IDENTIFY, now=clock.now())
    if row is None:
        return None
    if row["organization_id"] is None and work.tenant is not None:
        # Row-level security must not go on showing an organization that this person no longer belongs to.
        await work.act_for(tenant=None, user=login.user_id)
    role = ROLES[row["role"]] if row["organization_id"] is not None else None
    return Identity(**{name: row[name] for name in OF_THE_PERSON}, role=role, entitlement=row)


MEMBERSHIPS = Across(Membership, MembershipListed)


@query("organizations.list", requires=Who.SIGNED_IN, while_impersonated=False)
async def list_organizations(ctx: Context, page: PageRequest) -> Page[OrganizationRead]:
    """Those the asking person belongs to."""
    return await paginate(ctx, MINE, page, OrganizationRead)


@query("organizations.read", requires=Role.VIEWER)
async def get_current_organization(ctx: Context) -> OrganizationRead:
    row = await ctx.fetch_one(CURRENT)
    if row is None:
        raise NotFound("There is no such organization.")
    return OrganizationRead.model_validate({**row, "role": ctx.role})


@query("organizations.list_deleted", requires=Who.SIGNED_IN, while_impersonated=False)
async def list_restorable_organizations(ctx: Context) -> list[DeletedOrganizationRead]:
    """The asking person's own that can still be brought back, latest first; a handful at most."""
    rows = await ctx.fetch(RESTORABLE, since=clock.now() - timedelta(days=RESTORE_DAYS))
    return [DeletedOrganizationRead.model_validate(dict(row)) for row in rows]


@query("organizations.list_members", requires=Role.VIEWER)
async def list_members(ctx: Context, page: PageRequest) -> Page[MemberRead]:
    return await paginate(ctx, MEMBERS, page, MemberRead)


@query("organizations.list_invitations", requires=Role.ADMIN)
async def list_invitations(ctx: Context, page: PageRequest) -> Page[InvitationRead]:
    """Those that nobody has accepted or revoked; expired ones too, because they can be sent again."""
    return await paginate(ctx, INVITATIONS, page, InvitationRead)


@query("organizations.list_my_invitations", requires=Who.SIGNED_IN, while_impersonated=False)
async def list_my_invitations(ctx: Context) -> list[InvitationView]:
    """Those that wait for the asking person's verified address, wherever they come from; latest first."""
    return [_view(row) for row in await ctx.fetch(FOR_ME, now=clock.now())]


@query("organizations.read_invitation", requires=Who.ANYONE)
async def get_invitation(ctx: Context, token: str) -> InvitationView:
    """What the holder of a link may know. Raises NotFound for a token that never was, or was replaced."""
    hashed = hash_token(token)
    await ctx.fetch(SHOW_TOKEN, token=hashed.hex())
    row = await ctx.fetch_one(BY_TOKEN, token_hash=hashed)
    if row is None:
        raise NotFound("This invitation does not exist, or a newer one replaced it.", mend="Ask for a new one.")
    return _view(row)


async def look_up_region(work: UnitOfWork) -> str | None:
    """Of the organization that the transaction acts for, deleted or not; None when it is gone for good."""
    row = await work.fetch_one(REGION)
    return row["region"] if row else None


def _view(row: Mapping[str, Any]) -> InvitationView:
    """A link that leaked must not tell a stranger whom it was meant for: its owner recognises the address anyway."""
    name, _, domain = row["email"].rpartition("@")
    return InvitationView(
        organization=row["organization"],
        role=ROLES[row["role"]],
        address=f"{name[:1]}…@{domain}",
        expires_at=row["expires_at"],
        problem=why_closed(row["accepted_at"], row["revoked_at"], row["expires_at"]),
        href=f"/invitations/{make_token(row['id'], row['sendings'])}",
    )


@query("organizations.list_for_staff", requires=Who.STAFF)
async def list_organizations_for_staff(
    ctx: Context, wanted: OrganizationsWanted, page: PageRequest
) -> Page[OrganizationListed]:
    """Every one, newest first; or by id, or by the beginning of the name."""
    if not wanted.q:
        return await paginate(ctx, ORGANIZATIONS, page, OrganizationListed)
    if (known := uuid_in(wanted.q)) is not None:
        return await paginate(ctx, ORGANIZATION, page, OrganizationListed, id=known)
    return await paginate(ctx, BY_NAME, page, OrganizationListed, **prefix(wanted.q.lower()))


@query("organizations.list_memberships", requires=Who.STAFF)
async def list_memberships(ctx: Context, wanted: OfOrganization, page: Position) -> Page[MembershipListed]:
    """Of all organizations or of one, newest first."""
    return await MEMBERSHIPS.page(ctx, wanted, page)
