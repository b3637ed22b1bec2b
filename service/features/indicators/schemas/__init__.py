"""What goes in and out over the wire. Inputs refuse unknown fields; outputs have no defaults."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)

from service.core.schemas import Input, Line, Name, Number, Output, Text
from service.features.indicators.models import Step
from service.guardrails.pagination import Page

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)


def plausible(moment: datetime) -> datetime:
    if not EARLIEST <= moment < LATEST:
        raise ValueError("must lie between the years 2000 and 2100")
    return moment.astimezone(UTC)


Moment = Annotated[AwareDatetime, AfterValidator(plausible)]
Day = Annotated[date, Field(ge=EARLIEST.date(), lt=LATEST.date())]
Description = Annotated[Text, StringConstraints(max_length=2_000), Field(examples=["New accounts per hour"])]
Unit = Annotated[Line, StringConstraints(max_length=16), Field(examples=["people"])]
IndicatorName = Annotated[Name, Field(examples=["Sign-ups"])]
ShownName = Annotated[str, Field(examples=["Sign-ups"])]
ShownUnit = Annotated[str, Field(examples=["people"])]
Notice = Annotated[str | None, Field(examples=["Your plan shows 90 days of history; a larger one shows more."])]
Value = Annotated[Number, Field(ge=-1e15, le=1e15)]


class IndicatorCreate(Input):
    name: IndicatorName
    description: Description = ""
    unit: Unit = ""


class IndicatorUpdate(Input):
    """Only what is sent changes."""

    name: IndicatorName | None = None
    description: Description | None = None
    unit: Unit | None = None


class IndicatorRead(Output):
    id: UUID
    name: ShownName
    description: Annotated[str, Field(examples=["New accounts per hour"])]
    unit: ShownUnit
    created_at: datetime
    changed_at: datetime
    archived_at: datetime | None
    latest_value: float | None
    latest_at: datetime | None


class DeletedIndicatorRead(Output):
    id: UUID
    name: ShownName
    deleted_at: datetime


class ReadingCreate(Input):
    at: Moment
    value: Value


def assume_utc(value: object) -> object:
    """Browsers send `2026-11-22T14:00` from a datetime field; the page says that it means UTC."""
    return f"{value}Z" if isinstance(value, str) and len(value) in (16, 19) else value


class ReadingForm(Input):
    """A reading typed by a person."""

    at: Annotated[Moment, BeforeValidator(assume_utc)] = Field(title="Time (UTC)")
    value: Value

    def reading(self) -> ReadingCreate:
        return ReadingCreate(at=self.at, value=self.value)


class Period(Input):
    """Whole days in UTC, both included, and how wide the chart's buckets are."""

    since: Day = Field(title="From (UTC)")
    until: Day = Field(title="To (UTC)")
    step: Step = Field(title="Mean per")

    @field_validator("until")
    @classmethod
    def follows(cls, until: date, info: ValidationInfo) -> date:
        if until < info.data.get("since", until):
            raise ValueError("must not lie before the first day")
        return until

    def bounds(self) -> tuple[datetime, datetime]:
        first, last = (datetime.combine(day, time(), UTC) for day in (self.since, self.until))
        return first, last + timedelta(days=1)


class ReadingCorrection(Input):
    value: Value


class ReadingRead(Output):
    at: datetime
    value: float
    corrected_at: datetime | None

    @property
    def changed_at(self) -> datetime:
        return self.corrected_at or self.at


class Readings(Page[ReadingRead]):
    """`notice`, on the last page, says how far back the plan shows readings."""

    notice: Notice


class Appended(Output):
    """`unchanged` were stored before with the same value."""

    added: int
    unchanged: int


class Bucket(Output):
    at: datetime
    count: int
    mean: float
    low: float
    high: float


class Aggregates(Output):
    """All buckets of the range in one answer, whatever the number of readings behind them.

    `notice` says when the plan hides the beginning of the range.
    """

    step: Step
    buckets: list[Bucket]
    notice: Notice

    def points(self) -> list[tuple[datetime, float]]:
        return [(bucket.at, bucket.mean) for bucket in self.buckets]


@dataclass(frozen=True, slots=True)
class Detail:
    """One indicator's page: what it is, what feeds it, its chart, a page of its readings."""

    indicator: IndicatorRead
    source_id: UUID | None
    chart: Aggregates
    readings: Readings


class Tile(Output):
    """One indicator on the dashboard: the last 48 hours, and how their mean compares with the 48 before."""

    id: UUID
    name: ShownName
    unit: ShownUnit
    latest_value: float | None
    latest_at: datetime | None
    source_id: UUID | None
    as_of: datetime | None
    stale_because: Annotated[str, Field(examples=[""])]
    change: float | None
    trend: list[float]


class Dashboard(Output):
    as_of: datetime
    refresh_seconds: int
    tiles: list[Tile]
