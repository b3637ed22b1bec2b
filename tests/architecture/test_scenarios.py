"""Every way in which billing goes wrong in real life has a row in docs/scenarios.md, and the row names what proves it.

`python -m tests.architecture.test_scenarios` writes the tests into their rows anew; the words are written by hand.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "scenarios.md"
SCENARIOS = 82
WITH_TEST = 78
ROW = re.compile(r"^\| (\d+) \| (.+) \| (.+) \| (.*) \|$", re.MULTILINE)
NAMED = re.compile(r"`(tests/[\w/]+\.py::\w+)`")
NUMBERS = re.compile(r"scenario((?:_(?:and_)?\d\d)+)")
EXCUSE = "Does not touch the service: "


@dataclass(frozen=True)
class Row:
    number: int
    life: str
    answer: str
    tests: frozenset[str]


def rows_of(table: str) -> list[Row]:
    return [
        Row(int(number), life, answer, frozenset(NAMED.findall(tests)))
        for number, life, answer, tests in ROW.findall(table)
    ]


def carried_numbers() -> dict[int, set[str]]:
    """file::function of every test whose name carries a scenario's number."""
    found: dict[int, set[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                for numbers in NUMBERS.findall(node.name):
                    for number in re.findall(r"\d\d", numbers):
                        found.setdefault(int(number), set()).add(f"{path.relative_to(ROOT)}::{node.name}")
    return found


def complaints(table: str, carried: dict[int, set[str]]) -> list[str]:
    rows = rows_of(table)
    counted = Counter(row.number for row in rows)
    found = [f"{number} stands in the table {counted[number]} times" for number in numbers() if counted[number] != 1]
    found += [f"there is no scenario {number}" for number in sorted((counted.keys() | carried.keys()) - set(numbers()))]
    for row in rows:
        tests = carried.get(row.number, set())
        found += [f"{row.number} names {name}, which does not exist or lacks its number" for name in row.tests - tests]
        found += [f"{row.number} does not name {name}" for name in tests - row.tests]
        if bool(row.tests) == row.answer.startswith(EXCUSE):
            found.append(f"{row.number} has either a test or a reason why the service is not touched")
    return found


def numbers() -> range:
    return range(1, SCENARIOS + 1)


def test_every_scenario_has_a_row_and_every_row_its_tests() -> None:
    table = TABLE.read_text()
    assert not (found := complaints(table, carried_numbers())), (
        f"{found}: write the row in docs/scenarios.md, then `python -m tests.architecture.test_scenarios`"
    )
    assert sum(bool(row.tests) for row in rows_of(table)) >= WITH_TEST
    assert sum(len(row.tests) for row in rows_of(table)) >= 140


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("| 42 |", "| 41 |", "41 stands in the table 2 times"),
        ("| 42 |", "| 41 |", "42 stands in the table 0 times"),
        ("| 82 |", "| 83 |", "there is no scenario 83"),
        ("test_scenario_42_there", "test_scenario_42_where", "which does not exist"),
        ("test_scenario_42_there", "test_scenario_42_where", "42 does not name"),
        (EXCUSE, "Anyhow: ", "either a test or a reason"),
    ],
)
def test_a_gap_is_found(old: str, new: str, complaint: str) -> None:
    table = TABLE.read_text()
    assert old in table
    assert complaint in " ".join(complaints(table.replace(old, new), carried_numbers()))


def test_several_numbers_in_one_name_are_all_seen() -> None:
    carried = carried_numbers()
    assert carried[48] & carried[51]
    assert carried[18] & carried[19]


if __name__ == "__main__":
    carried = carried_numbers()
    print_of = "<br>".join
    text = TABLE.read_text()
    for row in rows_of(text):
        line = f"| {row.number} | {row.life} | {row.answer} |"
        tests = print_of(f"`{name}`" for name in sorted(carried.get(row.number, ())))
        text = re.sub(rf"^{re.escape(line)}.*$", f"{line} {tests} |".replace("\\", r"\\"), text, flags=re.MULTILINE)
    TABLE.write_text(text)
