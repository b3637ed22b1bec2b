"""What goes in and out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, StringConstraints

from service.core import clock
from service.core.schemas import Input, Line, Output
from service.features.support.models import REASON_LENGTH
from service.guardrails.break_glass import MARK, NOTE_LENGTH

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


class ActsWanted(Input):
    """What was done under which emergency rights."""

    grant_id: UUID | None = Field(None, title="Emergency rights", description="Their id; empty for the newest.")
    pages: bool = Field(False, title="The staff pages that were opened, instead")


class ActRead(Output):
    id: UUID
    at: datetime
    action: str
    outcome: str
    organization_id: UUID | None
    reason: str
    facts: dict[str, Any]

    @property
    def details(self) -> str:
        told = (f"{name.replace('_', ' ')}: {value}" for name, value in self.facts.items() if name != MARK)
        return "; ".join(told)


class GrantRead(Output):
    """Emergency rights that somebody had or has."""

    id: UUID
    user_id: UUID | None
    person: str | None
    reason: str
    opened_at: datetime
    ends_at: datetime
    closed_at: datetime | None
    recorded_at: datetime | None
    reviewed_at: datetime | None
    review: str
    reviewer: str | None

    @property
    def is_open(self) -> bool:
        return self.closed_at is None and self.ends_at > clock.now()

    @property
    def state(self) -> str:
        if self.is_open or self.reviewed_at:
            return "open" if self.is_open else "reviewed"
        return "to be confirmed" if self.recorded_at else "to be reviewed"


class Review(Input):
    reason: Annotated[Line, StringConstraints(min_length=10, max_length=NOTE_LENGTH)] = Field(
        title="What you found", description="Was it needed, was it what the reason says, and what follows from it?"
    )


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
