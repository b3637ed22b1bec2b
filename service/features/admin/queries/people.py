"""One person, as staff who help them see the account."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, func, literal_column, select

from service.core.context import Context
from service.core.errors import NotFound
from service.core.statements import Prepared
from service.features.accounts.models import RecoveryCode, User
from service.features.admin.queries.events import BY_PERSON, TO_PERSON
from service.features.admin.schemas import EventRead, PersonRead
from service.features.organizations.models import Membership, Organization
from service.guardrails import sessions
from service.guardrails.actions import query
from service.guardrails.permissions import Who
from service.guardrails.purge import LegalHold
from service.guardrails.sessions import Device

MOST_PLACES = 50
EVENTS_SHOWN = 30

PERSON = Prepared(
    select(
        User.id, User.email, User.name, User.is_staff, User.created_at, User.email_verified_at, User.deleted_at,
        User.locked_at, User.password_changed_at,
        User.password_hash.is_not(None).label("has_password"),
        User.totp_confirmed_at.is_not(None).label("has_totp"),
        select(func.count())
        .select_from(RecoveryCode)
        .where(RecoveryCode.user_id == User.id, RecoveryCode.used_at.is_(None))
        .scalar_subquery()
        .label("codes_left"),
    ).where(User.id == bindparam("id")),
    include_deleted=True,
)  # fmt: skip
PLACES = Prepared(
    select(Organization.id, Organization.name, Organization.deleted_at, Membership.role)
    .join(Organization, Organization.id == Membership.organization_id)
    .where(Membership.user_id == bindparam("id"))
    .order_by(Organization.id)
    .limit(literal_column(str(MOST_PLACES))),
    across_tenants=True,
    include_deleted=True,
)
HOLD = Prepared(
    select(LegalHold.reason, LegalHold.placed_at)
    .where(LegalHold.subject_id == bindparam("id"), LegalHold.lifted_at.is_(None))
    .order_by(LegalHold.placed_at)
    .limit(literal_column("1"))
)


@dataclass(frozen=True, slots=True)
class PersonView:
    """What the account page shows; for whom it acts (acts of the panel ask `applies(view)`)."""

    person: PersonRead
    places: list[Any]
    devices: list[Device]
    events: list[EventRead]
    hold: Any


@query("admin.get_person", requires=Who.STAFF)
async def get_person(ctx: Context, person_id: UUID) -> PersonView:
    """Deleted ones too, while they can come back. Raises NotFound."""
    row = await ctx.fetch_one(PERSON, id=person_id)
    if row is None:
        raise NotFound("There is no such account.")
    happened = [
        *await ctx.fetch(BY_PERSON, id=person_id),
        *await ctx.fetch(TO_PERSON, id=person_id),
    ]
    newest = {each["id"]: each for each in happened}
    return PersonView(
        person=PersonRead.model_validate(dict(row)),
        places=await ctx.fetch(PLACES, id=person_id),
        devices=await sessions.devices(ctx.resources, person_id),
        events=[EventRead.model_validate(dict(newest[key])) for key in sorted(newest, reverse=True)[:EVENTS_SHOWN]],
        hold=await ctx.fetch_one(HOLD, id=person_id),
    )
