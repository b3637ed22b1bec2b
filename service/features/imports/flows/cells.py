"""One cell of a CSV file: what is a time, and what is a number."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from service.features.imports.models import DecimalMark
from service.features.indicators.schemas import EARLIEST, LATEST

NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
LONGEST = 64
"""Characters of a number; `repr` of a double takes 24. One file of lines full of digits must not hold the worker up."""
WORDS = re.compile(r"[+-]?(?:nan|inf|infinity)|#[a-z0-9/!?]+", re.IGNORECASE)
"""Not a number, in the words of programs and of spreadsheets (#DIV/0!, #N/A)."""
MOST = 1e15
OTHER_MARK = {DecimalMark.POINT: ",", DecimalMark.COMMA: "."}


class Wrong(Exception):
    """What is wrong and how to mend it, in sentences that never quote the cell."""


def number(text: str, mark: DecimalMark) -> float:
    """Raises Wrong."""
    if len(text) > LONGEST:
        raise Wrong(f"The value is longer than {LONGEST} characters, which no number needs. Write it like 1234.5.")
    if OTHER_MARK[mark] in text:
        if mark is DecimalMark.POINT:
            raise Wrong("The value has a comma. Write 1234.5, or choose the comma as decimal mark.")
        raise Wrong("The value has a point. Write 1234,5 without marks for thousands, or choose the point.")
    plain = text.replace(",", ".")
    if not NUMBER.fullmatch(plain):
        if not text:
            raise Wrong("The value is missing. Fill it in, or leave the row out.")
        if WORDS.fullmatch(text):
            raise Wrong("The value is not a number or infinite, which cannot be stored. Leave the row out.")
        raise Wrong("The value is no number. Write it like 1234.5, without a unit and without marks for thousands.")
    value = float(plain)
    if not math.isfinite(value) or abs(value) > MOST:
        raise Wrong("The value is too large. Values lie between -10^15 and 10^15; choose a larger unit.")
    return value


def moment(text: str, zone: ZoneInfo | None) -> datetime:
    """In UTC; `zone` is meant by times that do not name theirs, None is UTC. Raises Wrong."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        if not text:
            raise Wrong("The time is missing. Fill it in, or leave the row out.") from None
        raise Wrong("The time is not understood. Write it like 2026-03-31T14:30:00Z or 2026-03-31 14:30.") from None
    try:
        found = _zoned(read, zone)
    except OverflowError:
        found = LATEST
    if not EARLIEST <= found < LATEST:
        raise Wrong("The time must lie between the years 2000 and 2100. Correct it, or leave the row out.")
    return found


def _zoned(read: datetime, zone: ZoneInfo | None) -> datetime:
    if read.tzinfo is UTC:
        return read
    if read.tzinfo is not None:
        return read.astimezone(UTC)
    if zone is None:
        return read.replace(tzinfo=UTC)
    first, second = (read.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first < second:
        raise Wrong("This time comes twice that day, when the clocks are put back. Write it with its offset: +02:00.")
    if second < first:
        raise Wrong("This time does not exist that day, when the clocks are put forward. Correct it.")
    return first


def written(at: datetime) -> str:
    """As an export writes it: read back, it is the same moment."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
