"""What goes in and out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from service.core.schemas import Input, Line, Output
from service.features.support.models import REASON_LENGTH

Reason = Annotated[Line, StringConstraints(min_length=10, max_length=REASON_LENGTH)]


class VisitStart(Input):
    organization_id: UUID = Field(title="Organization", description="You see this one of theirs, and no other.")
    reason: Reason = Field(
        title="Reason", description="What they asked for, or what is wrong. They read it in a mail when you have left."
    )


class VisitRead(Output):
    id: UUID
    person: str | None
    reason: str
    began_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Place:
    """An organization of the person that staff would visit."""

    organization_id: UUID
    name: str
    role: str
    allowed: bool


@dataclass(frozen=True, slots=True)
class Target:
    """Whom staff would visit; `problem` says why they may not."""

    person_id: UUID
    name: str
    problem: str
    places: list[Place]

    @property
    def href(self) -> str:
        return f"/staff/people/{self.person_id}/impersonation"

    @property
    def open(self) -> list[tuple[str, str]]:
        return [(str(one.organization_id), f"{one.name}, as {one.role}") for one in self.places if one.allowed]
