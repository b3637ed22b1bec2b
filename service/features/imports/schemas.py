"""What the form asks beside the file, and what the pages show of an import."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Annotated
from uuid import UUID
from zoneinfo import available_timezones

from pydantic import AfterValidator, Field

from service.core.schemas import Input, Output
from service.features.imports.models import DecimalMark, Mode, State

OPEN = (State.WAITING, State.READING, State.STORING)


PLACES = ("Africa/", "America/", "Antarctica/", "Asia/", "Atlantic/", "Australia/", "Europe/", "Indian/", "Pacific/")


@cache
def zones() -> list[str]:
    """UTC first; without the names that only old programs use."""
    return ["UTC", *sorted(name for name in available_timezones() if name.startswith(PLACES))]


def known_zone(name: str) -> str:
    if name not in zones():
        raise ValueError("choose one of the listed zones")
    return name


class ImportForm(Input):
    indicator: UUID | None = Field(
        None, title="Readings of", description="One indicator for the whole file, or its name in each row."
    )
    zone: Annotated[str, AfterValidator(known_zone)] = Field(
        "UTC", title="Time zone", description="Meant by times that do not name theirs, such as 2026-03-31 14:30."
    )
    decimal: DecimalMark = Field(DecimalMark.POINT, title="Decimal mark", description="Without marks for thousands.")
    mode: Mode = Field(
        Mode.ALL,
        title="If some rows are wrong",
        description="Either way each row gets a verdict, and uploading the mended file again stores nothing twice.",
    )


class ImportRead(Output):
    id: UUID
    created_at: datetime
    name: str
    size: int
    indicator_id: UUID | None
    indicator: str | None
    """Its name; None for several, and for one that has been deleted."""
    mode: Mode
    state: State
    remark: str
    position: int
    rows: int
    added: int
    unchanged: int
    refused: int
    cancelled_at: datetime | None
    finished_at: datetime | None
    ahead: int
    """Imports of the organization that come first."""

    @property
    def is_open(self) -> bool:
        return self.finished_at is None

    @property
    def share(self) -> float:
        """How much of the file has been read, from 0 to 1."""
        return self.position / self.size if self.size else 1.0


class Refusal(Output):
    row: int
    reason: str


class ImportListed(Output):
    """An import, as staff see it in the list."""

    id: UUID
    organization_id: UUID
    state: str
    size: int
    rows: int
    refused: int
    created_at: datetime
    finished_at: datetime | None
