"""Thousands of readings at once: each is judged by itself, and the answer has a verdict on each."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, ConfigDict, Field, TypeAdapter, ValidationError, WrapValidator
from typing_extensions import TypedDict

from service.core.schemas import Input, Output
from service.features.indicators.schemas import EARLIEST, LATEST, Appended
from service.web.sentences import message_for

BATCH_LIMIT = 10_000
NAMED = 100
"""Refused readings that an answer explains; of the others it gives the number and the places."""


class Mode(StrEnum):
    """What one bad reading does to the others of its batch."""

    ALL_OR_NOTHING = "all_or_nothing"
    SKIP_BAD = "skip_bad"


class BatchReading(TypedDict):
    """A reading of a batch: as a model, ten thousand would take six times as long to check."""

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)  # type: ignore[misc]  # pydantic's way

    at: Annotated[AwareDatetime, Field(ge=EARLIEST, lt=LATEST)]
    value: Annotated[float, Field(strict=True, ge=-1e15, le=1e15)]


class BatchReadingOf(BatchReading):
    """A reading of a batch that names its indicator."""

    indicator_id: UUID


AS_SENT = TypeAdapter(Annotated[list[Any], Field(min_length=1, max_length=BATCH_LIMIT)])


def as_sent(items: Any, _: Any) -> list[Any]:
    """Only counted here: `judge` says of each what is wrong, where pydantic would refuse the request as a whole."""
    return AS_SENT.validate_python(items)


Several = Field(min_length=1, max_length=BATCH_LIMIT)


class ReadingBatch(Input):
    readings: Annotated[list[BatchReading], Several, WrapValidator(as_sent)]
    mode: Mode = Mode.ALL_OR_NOTHING


class MixedBatch(Input):
    """Readings of several indicators."""

    readings: Annotated[list[BatchReadingOf], Several, WrapValidator(as_sent)]
    mode: Mode = Mode.ALL_OR_NOTHING


CHECKS: dict[type[Input], TypeAdapter[list[Any]]] = {
    ReadingBatch: TypeAdapter(list[BatchReading]),
    MixedBatch: TypeAdapter(list[BatchReadingOf]),
}
SLICE = 500
"""Readings checked before everybody else has a turn: about a millisecond, and five where all of them are wrong."""


@dataclass(slots=True)
class Judged:
    """The good readings of a batch with their places in it, and by place what is wrong with each of the others."""

    places: list[int] = field(default_factory=list)
    readings: list[Any] = field(default_factory=list)
    refused: dict[int, tuple[str, str]] = field(default_factory=dict)

    def keep(self, bad: dict[int, tuple[str, str]]) -> None:
        """Move these places from the good to the refused."""
        self.refused |= bad
        kept = [(place, one) for place, one in zip(self.places, self.readings, strict=True) if place not in bad]
        self.places, self.readings = [place for place, _ in kept], [one for _, one in kept]


async def judge(batch: ReadingBatch | MixedBatch) -> Judged:
    """Check each reading by itself, in slices: ten thousand in one piece would hold up every other request."""
    check, judged = CHECKS[type(batch)], Judged()
    first: dict[tuple[UUID | None, datetime], int] = {}
    for start in range(0, len(batch.readings), SLICE):
        for place, reading in _checked(check, batch.readings[start : start + SLICE], start, judged):
            before = first.setdefault((reading.get("indicator_id"), reading["at"]), place)
            if before != place:
                judged.refused[place] = "at", f"The same moment as in reading {before} of this batch."
            else:
                judged.places.append(place)
                judged.readings.append(reading)
        await asyncio.sleep(0)
    return judged


def _checked(check: TypeAdapter[list[Any]], items: list[Any], start: int, judged: Judged) -> list[tuple[int, Any]]:
    places = range(start, start + len(items))
    try:
        return list(zip(places, check.validate_python(items), strict=True))
    except ValidationError as error:
        for finding in error.errors(include_url=False, include_input=False):
            index, *path = finding["loc"]
            unknown = finding["type"] == "extra_forbidden"  # its name is the client's: not repeated
            named = "" if unknown else ".".join(map(str, path))
            sentence = "Unknown fields are refused." if unknown else message_for(finding)
            judged.refused.setdefault(start + int(index), (named, sentence))
    good = [place for place in places if place not in judged.refused]
    return list(zip(good, check.validate_python([items[place - start] for place in good]), strict=True))


class Refusal(Output):
    """Why one reading was not stored. `index` counts from 0; `field` is empty where the reading as a whole is wrong."""

    index: int
    field: Annotated[str, Field(examples=["value"])]
    message: Annotated[str, Field(examples=["Enter a number, for example 12.5."])]


class BatchRead(Appended):
    """The verdict on each reading: unless its index is listed as unchanged or refused, it was added.

    `refusals` explains the first hundred that were refused.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "added": 997,
                    "unchanged": 2,
                    "refused": 1,
                    "unchanged_indexes": [0, 1],
                    "refused_indexes": [17],
                    "refusals": [{"index": 17, "field": "value", "message": "Enter a number, for example 12.5."}],
                }
            ]
        }
    )

    refused: int
    unchanged_indexes: list[int]
    refused_indexes: list[int]
    refusals: list[Refusal]
