"""What the pages about choices show and take."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from service.core.schemas import Input, Line, Output, Text
from service.guardrails.purposes import Purpose
from service.web.staff_lists import OfPerson

NOTICE_DAYS = 3
"""So long before a restriction that staff lift ends: the person has been told by then and can object."""


class Agree(Input):
    version: int | None = Field(None, title="Which words", description="Those that stood beside the button.")


class Restrict(Input):
    reason: Annotated[Line, StringConstraints(max_length=300)] = Field(
        "", title="Why", description="For example: my address is wrong, and you are checking it."
    )


class RestrictPerson(Input):
    email: Annotated[Line, StringConstraints(min_length=3, max_length=254)] = Field(title="Their address")
    reason: Annotated[Line, StringConstraints(min_length=10, max_length=300)] = Field(
        title="Why", description="The ticket or letter; it stands in the log beside your name."
    )


class LiftRestriction(Input):
    reason: Annotated[Line, StringConstraints(min_length=10, max_length=300)] = Field(title="Why it ends")


class NewsText(Input):
    subject: Annotated[Line, StringConstraints(min_length=10, max_length=100)] = Field(title="Subject")
    text: Annotated[Text, StringConstraints(min_length=20, max_length=2_000)] = Field(title="Text")
    reason: Annotated[Line, StringConstraints(min_length=10, max_length=300)] = Field(
        title="Why", description="It stands in the log beside your name; the mail does not have it."
    )


class RestrictionsWanted(OfPerson):
    """Which restrictions staff ask about."""

    limit_id: UUID | None = Field(None, title="Restriction", description="Its id; empty for all.")


class NewsWanted(Input):
    """Which news staff look for."""

    q: Annotated[Line, StringConstraints(max_length=100)] = Field(
        "", title="Find news", description="Words of the subject, as they stand there; empty for all."
    )


class NewsRead(Output):
    id: UUID
    subject: str
    created_at: datetime


class RestrictionRead(Output):
    id: UUID
    user_id: UUID
    reason: str
    placed_at: datetime
    lifting_asked_at: datetime | None
    lifts_at: datetime | None


@dataclass(frozen=True, slots=True)
class Stand:
    """One purpose, and where the asking person stands on it."""

    purpose: Purpose
    yes: bool
    """Whether we may: agreed to these words, or not objected."""
    outdated: bool
    """They agreed to earlier words: until they say so again, the answer is no."""
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Choices:
    stands: list[Stand]
    restricted_since: datetime | None
    restriction_ends: datetime | None
