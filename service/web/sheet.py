"""CSV that no spreadsheet runs, whichever sign it takes for the end of a cell: ours is the comma."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

# What Excel and its kin run (OWASP, CSV injection) and what looks as if it had been made harmless already; also after
# what separates cells elsewhere: where the comma is the decimal mark, Excel splits our rows at semicolons.
RUN = r"(?:^|(?<=[;\t\r\n])){}(?='*[=+\-@\t\r])"
BOM = "\ufeff"
"""First in a file that people open: without it Excel reads names as if they were of its own code page."""
FORMULA, HARMLESS = re.compile(RUN.format("")), re.compile(RUN.format("'"))


def harmless(text: str) -> str:
    """The text with an apostrophe in front of what a spreadsheet would run; `as_meant` takes it away again."""
    return FORMULA.sub("'", text)


def as_meant(text: str) -> str:
    return HARMLESS.sub("", text)


def lines(rows: Iterable[Iterable[object]]) -> str:
    """Each text in quotes; a float as `repr` has it, which is exact."""
    made = io.StringIO()
    csv.writer(made, quoting=csv.QUOTE_NONNUMERIC).writerows(rows)
    return made.getvalue()


def cut(most: int) -> str:
    """The last line of a file that ends before its list does: nobody takes it for the whole."""
    return f"Cut here: a file holds {most:,} rows, and there are more. Narrow the filters."
