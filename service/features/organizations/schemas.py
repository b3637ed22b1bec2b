"""What goes in and out. Roles travel as their words: owner, admin, member, viewer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BeforeValidator, Field, PlainSerializer, StringConstraints, WithJsonSchema

from service.core.schemas import Input, Line, Name, Output
from service.features.accounts.schemas import Email
from service.guardrails.permissions import Role

ROLES = tuple(role.label for role in sorted(Role, reverse=True))


def _role(value: Any) -> Role:
    if isinstance(value, Role):
        return value
    if value in ROLES:
        return Role[value.upper()]
    raise ValueError(f"must be one of {', '.join(ROLES)}")


RoleName = Annotated[
    Role,
    BeforeValidator(_role),
    PlainSerializer(lambda role: role.label, return_type=str),
    WithJsonSchema({"type": "string", "enum": list(ROLES)}),
]


class OrganizationName(Input):
    name: Name = Field(title="Name", description="Your company or team, as your colleagues know it.")


class OrganizationCreate(OrganizationName):
    region: Line | None = Field(
        None, title="Region", description="Where files are kept and mail is sent from. It cannot be changed later."
    )


class DeletionConfirmation(Input):
    name: Line = Field(title="Type the name of the organization", description="So that nobody deletes the wrong one.")


class InvitationCreate(Input):
    email: Email = Field(title="E-mail address", description="The invitation works for this address only.")
    role: RoleName = Field(title="Role")


class RoleChange(Input):
    role: RoleName = Field(title="Role")


class OrganizationRead(Output):
    """`role` is the asking person's, or key's."""

    id: UUID
    name: Annotated[str, Field(examples=["Example Ltd"])]
    region: Annotated[str, Field(examples=["eu"])]
    created_at: datetime
    role: RoleName


class DeletedOrganizationRead(Output):
    id: UUID
    name: str
    deleted_at: datetime


class MemberRead(Output):
    id: UUID
    user_id: UUID
    name: Annotated[str, Field(examples=["Ann Example"])]
    email: Annotated[str, Field(examples=["ann@example.com"])]
    role: RoleName
    created_at: datetime


class InvitationRead(Output):
    id: UUID
    email: Annotated[str, Field(examples=["ann@example.com"])]
    role: RoleName
    created_at: datetime
    expires_at: datetime


class InvitationView(Output):
    """What whoever is invited may know before accepting; `problem` says why it no longer works, `href` is its page."""

    organization: str
    role: RoleName
    address: str
    expires_at: datetime
    problem: str
    href: str


class OrganizationsWanted(Input):
    """What staff look for."""

    q: Annotated[Line, StringConstraints(max_length=120)] = Field(
        "", title="Find an organization", description="The beginning of its name, or its id."
    )


class OrganizationListed(Output):
    """An organization as staff see it in the list."""

    id: UUID
    name: str
    region: str
    deleted_at: datetime | None
    created_at: datetime

    @property
    def state(self) -> str:
        return "active" if self.deleted_at is None else "deleted"


class MembershipListed(Output):
    """A place in an organization, as staff see it in the list."""

    id: UUID
    user_id: UUID
    organization_id: UUID
    role: str
    created_at: datetime
