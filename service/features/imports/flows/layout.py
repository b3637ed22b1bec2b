"""What the first row says: which columns there are, and what separates them. Found once, kept with the import."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from difflib import get_close_matches

from service.features.imports.flows.cells import Wrong
from service.features.imports.flows.pieces import LONGEST_LINE

BOM = b"\xef\xbb\xbf"
SAVE = "Save it as “CSV UTF-8” and upload that."
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
OTHER_FILES = {
    b"PK\x03\x04": f"This is a spreadsheet or an archive, no CSV. {SAVE}",
    b"\xd0\xcf\x11\xe0": f"This is an old Excel file, no CSV. {SAVE}",
    b"%PDF": f"This is a PDF, no CSV. {SAVE}",
    b"\xff\xfe": f"The file is UTF-16. {SAVE}",
    b"\xfe\xff": f"The file is UTF-16. {SAVE}",
}


@dataclass(frozen=True, slots=True)
class Layout:
    delimiter: str
    columns: tuple[str, ...]

    def __str__(self) -> str:
        return self.delimiter + " ".join(self.columns)

    @classmethod
    def of(cls, kept: str) -> Layout:
        return cls(kept[0], tuple(kept[1:].split(" ")))


def layout_of(first: bytes, *, names_indicators: bool) -> Layout:
    """Read the first row; `names_indicators` when no indicator was chosen for the file. Raises Wrong."""
    for beginning, sentence in OTHER_FILES.items():
        if first.startswith(beginning):
            raise Wrong(sentence)
    wanted = ("indicator", "time", "value") if names_indicators else ("time", "value")
    example = ",".join(wanted)
    if b"\0" in first:
        raise Wrong(f"The file has NUL bytes in its first row, so it is no text. {SAVE}")
    try:
        text = first.removeprefix(BOM).decode().strip("\r")
    except UnicodeDecodeError as error:
        at = error.start + len(first) - len(first.removeprefix(BOM))
        raise Wrong(f"Byte {at + 1} of the first row (0x{first[at]:02X}) is not UTF-8. {SAVE}") from None
    if len(first) > LONGEST_LINE or "\r" in text:
        raise Wrong(f"The first row is longer than {LONGEST_LINE} bytes; are there line ends? Begin with {example}.")
    for delimiter in DELIMITERS:
        columns = tuple(cell.strip().lower() for cell in next(csv.reader([text], delimiter=delimiter), []))
        if sorted(columns) == sorted(wanted):
            return Layout(delimiter, columns)
    raise Wrong(_sentence(text, wanted, example))


def _sentence(text: str, wanted: tuple[str, ...], example: str) -> str:
    delimiter = max(DELIMITERS, key=text.count)
    columns = [cell.strip().lower() for cell in next(csv.reader([text], delimiter=delimiter), [])]
    begin = f"The first row must name the columns: {example}."
    if len(columns) > len(wanted) and set(wanted) <= set(columns):
        extra = "a column of its indicator" if "indicator" in columns else "more columns"
        hint = "choose “named in the file”, or remove it" if "indicator" in columns else "remove them"
        return f"{begin} It has {extra}: {hint}."
    missing = [name for name in wanted if name not in columns]
    spelt = [name for name in missing if get_close_matches(name, columns, 1, 0.6)]
    if spelt:
        return f"{begin} Column {' and '.join(spelt)} seems to be misspelt."
    if len(missing) == len(wanted):
        return f"{begin} It names none of them: put them above the first reading."
    return f"{begin} It lacks {' and '.join(missing)}."
