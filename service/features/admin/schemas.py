"""What the staff panel shows and takes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from service.core.schemas import Input, Line
from service.guardrails.jobs.queue import DeadLetter
from service.guardrails.switches import Switch

MEANING = {
    Switch.READ_ONLY: ("Read-only", "Nobody can change anything; reading, logging in and this page go on working."),
    Switch.STOP_SIGN_UPS: ("Stop sign-ups", "Nobody can make a new account; everybody else works as before."),
    Switch.STOP_MAIL: ("Stop mail", "Mails wait in the queue and leave when it is turned off."),
}


class SwitchChange(Input):
    on: bool
    reason: Annotated[Line, StringConstraints(max_length=200)] = Field(
        "", title="Reason", description="People see it while the switch is on."
    )


@dataclass(frozen=True, slots=True)
class SwitchRow:
    switch: Switch
    title: str
    meaning: str
    is_on: bool
    reason: str
    changed_at: datetime | None


@dataclass(frozen=True, slots=True)
class InvariantRow:
    sentence: str
    violations: int
    checked_at: datetime


@dataclass(frozen=True, slots=True)
class Overview:
    switches: list[SwitchRow]
    dead_letters: list[DeadLetter]
    invariants: list[InvariantRow]
