"""The verification standard (OWASP ASVS 5.0): what proves each row, and that it exists.

docs/compliance/asvs.csv has every requirement; `evidence` names tests, or a heading of a document where the standard
asks for a decision in writing. `python -m tests.architecture.test_asvs` prints how much is proved and what is open.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache

import pytest

from tests.architecture.conftest import ROOT
from tests.architecture.entry_points import known_tests

TABLE = ROOT / "docs" / "compliance" / "asvs.csv"
TOTAL = {"L1": 70, "L2": 183, "L3": 92}
PROVED = {"L1": 64, "L2": 144, "L3": 29}
"""How many rows that apply have evidence; they may only rise."""
DOES_NOT_APPLY = 59
"""How many rows are about what the service does not have; they may only fall."""
OPEN: dict[str, str] = {}
"""What applies and is not proved, and why. Whoever builds it takes the line away."""


@dataclass(frozen=True)
class Row:
    id: str
    level: str
    applies: str
    provable: str
    note: str
    evidence: tuple[str, ...]


@cache
def table() -> list[Row]:
    with TABLE.open(newline="") as file:
        return [
            Row(one["id"], one["level"], one["applies"], one["provable"], one["note"], tuple(one["evidence"].split()))
            for one in csv.DictReader(file)
        ]


@cache
def headings(path: str) -> frozenset[str]:
    """The anchors of a document, as GitHub makes them."""
    text = (ROOT / path).read_text()
    lines = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return frozenset(re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-") for line in lines)


def exists(evidence: str) -> bool:
    if evidence.startswith("tests/"):
        return evidence in known_tests()
    path, _, anchor = evidence.partition("#")
    return (ROOT / path).is_file() and anchor in headings(path)


def complaints(row: Row) -> list[str]:
    found = [f"{one} does not exist" for one in row.evidence if not exists(one)]
    applies = row.applies in ("yes", "config")
    if row.level != "L3" and applies and not row.evidence and row.id not in OPEN:
        found.append("names nothing that proves it, and is not among the open ones")
    if row.id in OPEN and row.evidence:
        found.append("is proved: take it out of OPEN")
    if row.applies not in APPLIES:
        found.append(f"applies {row.applies!r} is none of {APPLIES}")
    if row.applies == "no" and not row.note.strip():
        found.append("does not say why it does not apply")
    if row.applies == "no" and row.evidence:
        found.append("does not apply, and yet names what proves it")
    tests = [one for one in row.evidence if one.startswith("tests/")]
    wants_test = row.applies == "yes" and row.provable in ("code test", "browser test") and row.id not in IN_WRITING
    if wants_test and row.evidence and not tests:
        found.append("is to be proved by a test, and a document is named")
    return [f"{row.id}: {one}" for one in found]


IN_WRITING = frozenset({"v5.0.0-6.4.2", "v5.0.0-16.2.3"})
"""Absences and places: there is nothing to run a test against."""


APPLIES = ("yes", "config", "no")
"""Whether a row is about this service: in every deployment, by how one is set up, or not at all."""


def proved() -> Counter[str]:
    return Counter(row.level for row in table() if row.applies in ("yes", "config") and row.evidence)


def test_every_row_that_applies_names_what_proves_it() -> None:
    assert Counter(row.level for row in table()) == TOTAL
    assert sum(row.applies == "no" for row in table()) <= DOES_NOT_APPLY, "rows are proved, not argued away"
    found = [one for row in table() for one in complaints(row)]
    assert not found, "\n".join(found)


def test_what_is_proved_only_rises() -> None:
    now = proved()
    assert all(now[level] >= least for level, least in PROVED.items()), f"{now}, and it was {PROVED}"


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (Row("v5.0.0-1.2.1", "L1", "yes", "code test", "", ()), "names nothing"),
        (Row("v5.0.0-1.2.1", "L1", "yes", "code test", "", ("tests/web/test_macros.py::test_made_up",)), "not exist"),
        (Row("v5.0.0-2.1.1", "L1", "yes", "doc", "", ("docs/compliance/verification.md#made-up",)), "not exist"),
        (Row("v5.0.0-1.2.1", "L1", "yes", "code test", "", ("docs/compliance/verification.md#input",)), "by a test"),
        (Row("v5.0.0-4.4.1", "L1", "no", "n/a", "", ()), "why it does not apply"),
        (Row("v5.0.0-4.4.1", "L1", "no", "n/a", "no WebSocket", ("Makefile",)), "and yet names"),
        (Row("v5.0.0-4.4.1", "L1", "n/a", "n/a", "no WebSocket", ()), "is none of"),
    ],
)
def test_a_row_without_proof_is_found(row: Row, complaint: str) -> None:
    assert any(complaint in one for one in complaints(row))


def test_what_is_open_is_not_proved_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Row("v5.0.0-2.1.1", "L1", "yes", "doc", "", ("docs/compliance/verification.md#input",))
    assert not complaints(row)
    monkeypatch.setitem(OPEN, row.id, "nobody has built it")
    assert any("out of OPEN" in one for one in complaints(row))


if __name__ == "__main__":
    counted = proved()
    for level in TOTAL:
        asked = sum(row.level == level and row.applies in ("yes", "config") for row in table())
        print(f"{level}: {counted[level]} of {asked} that apply are proved, {TOTAL[level] - asked} do not apply")
    for name, why in OPEN.items():
        print(f"open: {name}: {why}")
