"""What the staff's own pages show and take."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from service.core.schemas import Input, Line, Output
from service.guardrails.audit import Checked
from service.guardrails.feature_flags import Flag
from service.guardrails.limit_lookup import Known
from service.guardrails.processes import Process
from service.guardrails.staff_reasons import Reason
from service.guardrails.switches import Switch
from service.web.system_facts import Fact

LONGEST_WAY = 500
MEANING = {
    Switch.READ_ONLY: ("Read-only", "Nobody can change anything; reading, logging in and this page go on working."),
    Switch.STOP_SIGN_UPS: ("Stop sign-ups", "Nobody can make a new account; everybody else works as before."),
    Switch.STOP_MAIL: ("Stop mail", "Mails wait in the queue and leave when it is turned off."),
}


class Why(Input):
    reason: Reason


class SwitchChange(Input):
    on: bool
    reason: Reason = Field(
        title="Reason", description="People see it while the switch is on; the log keeps it for ever."
    )


class JobState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    GIVEN_UP = "given_up"


class JobsWanted(Input):
    state: JobState = Field(JobState.WAITING, title="State")
    name: Annotated[Line, StringConstraints(max_length=255)] = Field(
        "", title="Name", description="The whole name of a kind of job, for example accounts.send_mail."
    )


class JobRead(Output):
    """A job in the queue; what it carries is nobody's business here."""

    id: int
    name: str
    organization_id: UUID | None
    attempts: int
    enqueued_at: datetime
    due_at: datetime
    changed_at: datetime


class LimitsSearch(Input):
    kind: Literal["address", "account", "organization", "key"] = Field("address", title="Whose")
    q: Annotated[Line, StringConstraints(max_length=254)] = Field(
        "", title="Which", description="An address, an e-mail or account's id, an organization's id, a key's beginning."
    )


class LimitsReset(Why):
    policy: Annotated[Line, StringConstraints(max_length=40)] = Field("", title="Limit")


@dataclass(frozen=True, slots=True)
class LimitsOf:
    """Whose limits were found, in a word for the log that names no person, and every bucket that may be theirs."""

    whose: str
    known: list[Known]
    account: UUID | None = None


class FlagChange(Why):
    organization: UUID = Field(title="Organization", description="Its id, as the customer's people see it.")
    flag: Flag = Field(title="Flag")
    to: Literal["on", "off", "default"] = Field(title="Turn it")


class FlagRead(Output):
    """An organization that was turned one way or the other."""

    organization_id: UUID
    flag: str
    is_on: bool
    changed_at: datetime


class FlagsWanted(Input):
    """Which flags staff look for."""

    q: Annotated[Line, StringConstraints(max_length=100)] = Field(
        "", title="Find a flag", description="A part of its name or of what it does; empty for all."
    )


class DeclaredFlag(Output):
    flag: str
    description: str
    decides: str
    default: str
    ends: str


@dataclass(frozen=True, slots=True)
class Verification:
    """The audit log recomputed against its seals: since when somebody waits for it, and what came of the last look."""

    asked_at: datetime | None
    last: Checked | None


@dataclass(frozen=True, slots=True)
class System:
    versions: list[Fact]
    queue: list[Fact]
    workers: list[Fact]
    periodic: list[Fact]
    breakers: list[Fact]
    processes: list[Process]
    invariants: list[Fact]
    verification: Verification


@dataclass(frozen=True, slots=True)
class Turn:
    """Somebody turned a switch."""

    at: datetime
    who: str
    on: bool
    reason: str


class GiveReason(Input):
    """Where from, and so whose data; and why."""

    next: Annotated[Line, StringConstraints(min_length=1, max_length=LONGEST_WAY)]
    reason: Reason


@dataclass(frozen=True, slots=True)
class SwitchRow:
    switch: Switch
    title: str
    meaning: str
    is_on: bool
    reason: str
    changed_at: datetime | None
    history: list[Turn]


class EventsWanted(Input):
    """Which part of the log is meant."""

    actor_id: UUID | None = Field(None, title="Who did it", description="An account's id.")
    object_id: UUID | None = Field(None, title="To what", description="The id of an account or a record.")
    organization_id: UUID | None = Field(None, title="In which organization", description="Its id.")


class EventRead(Output):
    """One line of the log: ids and words, no names."""

    id: UUID
    at: datetime
    action: str
    outcome: str
    actor_kind: str
    actor_id: UUID | None
    organization_id: UUID | None
    object_type: str
    object_id: UUID | None
    reason: str
    network: str


class PersonRead(Output):
    """An account as staff see it."""

    id: UUID
    email: str
    name: str
    is_staff: bool
    created_at: datetime
    email_verified_at: datetime | None
    deleted_at: datetime | None
    locked_at: datetime | None
    password_changed_at: datetime | None
    has_password: bool
    has_totp: bool
    codes_left: int

    @property
    def state(self) -> tuple[str, str]:
        """A word, and the kind of badge it is."""
        if self.deleted_at is not None:
            return "deleted", "danger"
        if self.locked_at is not None:
            return "locked", "danger"
        return ("active", "success") if self.email_verified_at else ("unconfirmed", "warning")
