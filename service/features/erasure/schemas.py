"""What the pages about erasure show and take."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, StringConstraints

from service.core.schemas import Input, Line, Output
from service.features.erasure.models import Source, State

STEPS = {
    "close": "The account is closed, every session has ended",
    "farewell": "A last mail has been sent",
    "files": "Exports and other files of the person are gone",
    "stripe": "Stripe has forgotten the address",
    "mail": "The mail provider has forgotten the address",
    "ledger": "It is noted where no backup reaches, so that a restore brings nobody back",
    "tables": "Every table has been walked",
}
"""Each step with what is true once it is done, in order; `flows/steps.py` has what each does."""


class Ask(Input):
    email: Annotated[Line, StringConstraints(max_length=254)] = Field(
        title="Your address", description="Type the address of your account, so that this is no slip."
    )


class Enter(Input):
    email: Annotated[Line, StringConstraints(min_length=3, max_length=254)] = Field(title="Their address")
    reason: Annotated[Line, StringConstraints(min_length=10, max_length=300)] = Field(
        title="How they asked", description="The ticket or letter; it stands in the log beside your name."
    )


class Checked(Input):
    reason: Annotated[Line, StringConstraints(min_length=10, max_length=300)] = Field(title="How you checked")


class Refused(Input):
    reason: Annotated[Line, StringConstraints(min_length=10, max_length=300)] = Field(
        title="Why not", description="The person reads it in a mail."
    )


class RequestRead(Output):
    id: UUID
    user_id: UUID
    state: State
    source: Source
    requested_at: datetime
    requested_by: UUID | None
    due_at: datetime | None
    finished_at: datetime | None
    held: str | None

    @property
    def is_held(self) -> bool:
        return bool(self.held) and self.finished_at is None


class LetterRead(RequestRead):
    reason: str | None
    """What the letter was, which may name somebody."""


@dataclass(frozen=True, slots=True)
class StepRead:
    name: str
    sentence: str
    done_at: datetime | None
    evidence: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RequestView:
    """What the page about one request shows."""

    found: LetterRead
    steps: list[StepRead]
    mine: bool
    """The reader entered it, so somebody else has to check who wrote."""

    @property
    def waits(self) -> bool:
        return self.found.state is State.REQUESTED

    @property
    def is_personal(self) -> bool:
        """Somebody typed what the letter was, and why it was refused."""
        return self.waits or self.found.state is State.REFUSED


@dataclass(frozen=True, slots=True)
class Kept:
    """Something that outlives the person, and why."""

    what: str
    because: str
