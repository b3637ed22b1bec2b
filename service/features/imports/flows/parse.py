"""One piece of the file -> rows that can be stored, and a sentence for each that cannot. Pure, for a thread."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from service.features.imports.flows.cells import Wrong, moment, number
from service.features.imports.flows.layout import DELIMITERS, Layout
from service.features.imports.flows.pieces import LONGEST_LINE
from service.features.imports.models import DecimalMark
from service.guardrails.cards import SENTENCE, contains_card
from service.web.sheet import as_meant

LONGEST_NAME = 120


@dataclass(frozen=True, slots=True)
class Row:
    """`indicator` is its name as the file has it, empty where the whole file is for one."""

    line: int
    indicator: str
    at: datetime
    value: float


@dataclass(slots=True)
class Parsed:
    rows: list[Row] = field(default_factory=list)
    wrong: dict[int, str] = field(default_factory=dict)
    """Line -> why it cannot be stored. Empty lines are in neither: they are passed over."""


def parse(lines: list[bytes], first: int, layout: Layout, zone: ZoneInfo | None, mark: DecimalMark) -> Parsed:
    """`first` is the number of the first line, as editors and spreadsheets count: the one with the names is 1."""
    found = Parsed()
    time, value = layout.columns.index("time"), layout.columns.index("value")
    name = layout.columns.index("indicator") if "indicator" in layout.columns else None
    for line, raw in enumerate(lines, first):
        try:
            cells = _cells(raw, layout)
            if not any(cells):
                continue
            if len(cells) != len(layout.columns):
                raise Wrong(_count(len(cells), layout))
            indicator = "" if name is None else _name(cells[name])
            found.rows.append(Row(line, indicator, moment(cells[time], zone), number(cells[value], mark)))
        except Wrong as wrong:
            found.wrong[line] = str(wrong)
    return found


def _cells(raw: bytes, layout: Layout) -> list[str]:
    if len(raw) > LONGEST_LINE:
        raise Wrong(f"The row is longer than {LONGEST_LINE} bytes. It may have {len(layout.columns)} short cells.")
    if b"\0" in raw:
        raise Wrong(f"Byte {raw.index(0) + 1} of the row is NUL. Remove it; text files have none.")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        at = error.start
        raise Wrong(f"Byte {at + 1} of the row (0x{raw[at]:02X}) is not UTF-8. Save the file as “CSV UTF-8”.") from None
    text = text.removesuffix("\r")
    if contains_card(text):
        raise Wrong(f"{SENTENCE} Take it out of the row.")
    if "\r" in text:
        raise Wrong("The row has a carriage return inside. End rows with a line feed.")
    if '"' not in text:
        return [cell.strip() for cell in text.split(layout.delimiter)]
    try:
        return [cell.strip() for cell in next(csv.reader([text], delimiter=layout.delimiter, strict=True))]
    except csv.Error:
        raise Wrong("A quote is not closed, or text follows it. Write quotes inside a cell twice.") from None


def _count(cells: int, layout: Layout) -> str:
    return (
        f"The row has {cells} {'cell' if cells == 1 else 'cells'} instead of {len(layout.columns)} "
        f"({', '.join(layout.columns)}), separated by {DELIMITERS[layout.delimiter]}. Correct it."
    )


def _name(text: str) -> str:
    if not text:
        raise Wrong("The indicator is missing. Fill in its name, or leave the row out.")
    if len(name := as_meant(text)) > LONGEST_NAME:
        raise Wrong(f"The indicator's name is longer than {LONGEST_NAME} characters. Write it as it is here.")
    return name
