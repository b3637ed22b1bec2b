"""What people's files look like, and the sentence for each way in which they are wrong."""

from __future__ import annotations

import re
import time
import tracemalloc
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.features.imports.flows.cells import NUMBER, Wrong
from service.features.imports.flows.layout import Layout, layout_of
from service.features.imports.flows.parse import Parsed, parse
from service.features.imports.flows.pieces import LONGEST_LINE, Piece, pieces
from service.features.imports.models import DecimalMark
from service.web.sheet import as_meant, harmless, lines

PLAIN = Layout(",", ("time", "value"))
NAMED = Layout(";", ("indicator", "time", "value"))
BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 3, 31, 12, tzinfo=UTC)


def read(line: str | bytes, layout: Layout = PLAIN, zone: ZoneInfo | None = None, mark: str = "point") -> Parsed:
    raw = line if isinstance(line, bytes) else line.encode()
    return parse([raw], 7, layout, zone, DecimalMark(mark))


@pytest.mark.parametrize(
    ("line", "zone", "mark", "at", "value"),
    [
        ("2026-03-31T12:00:00Z,12.5", None, "point", NOON, 12.5),
        ("2026-03-31 14:00+02:00 , -3\r", None, "point", NOON, -3),
        ("2026-03-31 12:00,.5e-3", None, "point", NOON, 0.0005),
        ('"2026-03-31 14:00","1,5"', BERLIN, "comma", NOON, 1.5),
        ("2026-03-31,+1E3", None, "point", NOON.replace(hour=0), 1000),
        # Twice that day: the offset says which.
        ("2026-10-25T02:30+01:00,1", BERLIN, "point", datetime(2026, 10, 25, 1, 30, tzinfo=UTC), 1),
    ],
)
def test_times_and_numbers_are_read(line: str, zone: ZoneInfo | None, mark: str, at: datetime, value: float) -> None:
    found = read(line, zone=zone, mark=mark)
    assert [(row.line, row.at, row.value) for row in found.rows] == [(7, at, value)], found.wrong


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("2026-03-31,", "The value is missing. Fill it in"),
        (",1", "The time is missing. Fill it in"),
        ("2026-03-31", "The row has 1 cell instead of 2 (time, value), separated by commas"),
        ("2026-03-31;1", "separated by commas"),
        ("x," * 2_000, "The row has 2001 cells instead of 2"),
        ("," * 1_000_000, f"The row is longer than {LONGEST_LINE} bytes"),
        (b"2026-03-31,1\x002", "Byte 13 of the row is NUL. Remove it"),
        ("2026-03-31,1é".encode("latin-1"), "Byte 13 of the row (0xE9) is not UTF-8"),
        ("2026-03-31,1\r2026-04-01,2", "The row has a carriage return inside"),
        ('"2026-03-31,1', "A quote is not closed"),
        ("2026-03-31,nan", "The value is not a number or infinite"),
        ("2026-03-31,-Infinity", "The value is not a number or infinite"),
        ("2026-03-31,#DIV/0!", "The value is not a number or infinite"),
        ("2026-03-31,1e400", "The value is too large. Values lie between"),
        ("2026-03-31,1e16", "The value is too large"),
        ("2026-03-31,4111111111111111", "This looks like a card number; never send it here. Take it out of the row"),
        ('2026-03-31,"4111 1111 1111 1111"', "This looks like a card number"),
        (f"2026-03-31,{'1' * 65}", "The value is longer than 64 characters"),
        ('2026-03-31,"1,5"', "has a comma. Write 1234.5, or choose the comma as decimal mark"),
        ("2026-03-31,1_000", "The value is no number"),
        ("2026-03-31,\uff11\uff12", "The value is no number"),
        ("2026-03-31,12 EUR", "The value is no number. Write it like 1234.5, without a unit"),
        ("31.03.2026 14:00,1", "The time is not understood. Write it like 2026-03-31T14:30:00Z"),
        ("2026-02-30,1", "The time is not understood"),
        ("1999-12-31,1", "must lie between the years 2000 and 2100"),
        ("9999-12-31T23:59-23:00,1", "must lie between the years 2000 and 2100"),
        ("0001-01-01T00:00+23:00,1", "must lie between the years 2000 and 2100"),
    ],
)
def test_each_wrong_row_is_named_with_its_mend(line: str | bytes, sentence: str) -> None:
    found = read(line)
    assert not found.rows
    assert list(found.wrong) == [7]
    assert sentence in found.wrong[7]


def test_hours_that_do_not_exist_or_come_twice_are_asked_about() -> None:
    """An hourly file in local time has the same hour twice in October: the second would contradict the first."""
    assert "comes twice that day" in read("2026-10-25 02:30,1", zone=BERLIN).wrong[7]
    assert "does not exist that day" in read("2026-03-29 02:30,1", zone=BERLIN).wrong[7]


def test_a_point_is_refused_where_the_comma_is_the_mark() -> None:
    """1.234 would be stored as one and a bit, where a thousand was meant."""
    assert (
        "without marks for thousands" in read("2026-03-31;1.234", Layout(";", ("time", "value")), mark="comma").wrong[7]
    )


def test_indicators_are_named_as_they_are_and_empty_lines_are_passed_over() -> None:
    lines = [b'"Caf\xc3\xa9; ""big""";2026-03-31;1', b"", b"\r", b";;", b";2026-03-31;1", b"x" * 121 + b";2026-03-31;1"]
    found = parse(lines, 2, NAMED, None, DecimalMark.POINT)
    assert [(row.line, row.indicator) for row in found.rows] == [(2, 'Café; "big"')]
    assert list(found.wrong) == [6, 7]
    assert "indicator is missing" in found.wrong[6]
    assert "longer than 120" in found.wrong[7]


@pytest.mark.parametrize(
    ("first", "named", "layout"),
    [
        (b"time,value", False, PLAIN),
        (b"\xef\xbb\xbfIndicator;TIME; Value\r", True, NAMED),
        (b'"value"\t"time"', False, Layout("\t", ("value", "time"))),
    ],
)
def test_the_first_row_says_the_columns_and_what_separates_them(first: bytes, named: bool, layout: Layout) -> None:
    found = layout_of(first, names_indicators=named)
    assert found == layout
    assert Layout.of(str(found)) == found


@pytest.mark.parametrize(
    ("first", "named", "sentence"),
    [
        (b"2026-03-31,1", False, "It names none of them: put them above the first reading."),
        (b"time,vlaue", False, "Column value seems to be misspelt."),
        (b"time,value", True, "It lacks indicator."),
        (b"indicator,time,value", False, "choose \u201cnamed in the file\u201d, or remove it."),
        (b"time,value,unit", False, "It has more columns: remove them."),
        (b"PK\x03\x04...", False, "This is a spreadsheet"),
        ("time,value".encode("utf-16"), False, "The file is UTF-16"),
        (b"time\0,value", False, "NUL bytes"),
        (b"\xef\xbb\xbftime,v\xe4lue", False, "Byte 10 of the first row (0xE4) is not UTF-8"),
        (b"time,value\r2026-03-31,1\r2026-04-01,2", False, "are there line ends?"),
    ],
)
def test_a_first_row_that_names_something_else_is_explained(first: bytes, named: bool, sentence: str) -> None:
    with pytest.raises(Wrong, match=r"\.") as refused:
        layout_of(first, names_indicators=named)
    assert sentence in str(refused.value)


async def parts_of(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@given(st.lists(st.binary(max_size=60), max_size=12), st.integers(1, 90), st.booleans())
async def test_pieces_are_the_file_however_it_arrives(lines: list[bytes], size: int, ends: bool) -> None:
    data = b"\n".join(line.replace(b"\n", b" ") for line in lines) + (b"\n" if ends and lines else b"")
    with pytest.MonkeyPatch.context() as small:
        small.setattr("service.features.imports.flows.pieces.PIECE", 40)
        small.setattr("service.features.imports.flows.pieces.LONGEST_LINE", 20)
        found = [piece async for piece in pieces(parts_of(data, size), 0)]
        cut = [line[:21] for piece in found for line in piece.lines]
        assert cut == [line[:21] for line in data.removesuffix(b"\n").split(b"\n") if data]
        # Whoever goes on after any piece reads the rest and nothing twice.
        for index, piece in enumerate(found):
            rest = [each async for each in pieces(parts_of(data[piece.end :], size), piece.end)]
            assert [each.lines for each in rest] == [each.lines for each in found[index + 1 :]]


async def test_one_line_of_a_hundred_megabytes_takes_no_memory() -> None:
    async def flood() -> AsyncIterator[bytes]:
        yield b"time,value\n"
        for _ in range(100):
            yield b"1," * 524_288
        yield b"\n2026-03-31,1\n"

    tracemalloc.start()
    try:
        found: list[Piece] = [piece async for piece in pieces(flood(), 0)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [len(line) for piece in found for line in piece.lines] == [10, LONGEST_LINE + 1, 12]
    assert peak < 8_000_000


@given(st.text(max_size=12) | st.text(";\t\r'=+-@ab\",", max_size=12))
def test_no_cell_is_a_formula_wherever_it_is_split_and_every_name_comes_back(name: str) -> None:
    made = harmless(name)
    assert not [cell for cell in re.split("[;\t\r\n]", made) if cell.startswith(("=", "+", "-", "@"))]
    assert not made.startswith(("\t", "\r"))
    assert as_meant(made) == name
    assert lines([[made, -3.5]]) == '"{}",-3.5\r\n'.format(made.replace('"', '""'))


def test_a_cell_full_of_digits_takes_no_time() -> None:
    """4,050 digits and a letter took a second while the pattern could split them in two wherever it liked."""
    began = time.process_time()
    for _ in range(20):
        assert not NUMBER.fullmatch("1" * 4_050 + "x")
    assert time.process_time() - began < 0.5
