"""The pages on compliance name files and tests; each of them is there, and each row has both."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.architecture.conftest import ROOT

FOLDER = ROOT / "docs" / "compliance"
NAMED = re.compile(r"`((?:service|tests|docs|ops|infra|migrations|\.github)/[^`\s]+|Dockerfile)`")
LINK = re.compile(r"\]\(([\w./-]+)\)")
LEAST = {"gdpr.md": (15, 30), "soc2.md": (15, 35), "hipaa.md": (10, 10), "pci.md": (8, 8), "residency.md": (12, 3)}
"""Rows, and names of files and tests, that each page had when this was written; more is better."""


def problems(text: str, folder: Path = FOLDER) -> list[str]:
    """What the text names and nobody has."""
    found = []
    for name in NAMED.findall(text):
        path, _, test = name.partition("::")
        if not (ROOT / path).exists():
            found.append(f"{path} is gone")
        elif test and test not in defined_in(ROOT / path):
            found.append(f"{path} has no {test}")
    return found + [f"the link {link} leads nowhere" for link in LINK.findall(text) if not (folder / link).exists()]


def defined_in(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def rows(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|-")]
    return lines[1:]


def pages() -> list[str]:
    return sorted(page.name for page in FOLDER.glob("*.md"))


def test_the_scan_sees_the_pages() -> None:
    assert set(pages()) >= {*LEAST, "README.md", "record-of-processing.md"}


@pytest.mark.parametrize("page", pages())
def test_what_a_page_names_exists(page: str) -> None:
    assert not (wrong := problems((FOLDER / page).read_text())), f"{page}: {wrong}"


@pytest.mark.parametrize("page", LEAST)
def test_every_requirement_has_its_mechanism_and_its_test(page: str) -> None:
    text = (FOLDER / page).read_text()
    found, named = rows(text), NAMED.findall(text)
    least_rows, least_names = LEAST[page]
    assert len(found) >= least_rows, f"the scan saw only {len(found)} rows of {page}"
    assert len(named) >= least_names, f"the scan saw only {len(named)} names in {page}"
    if page != "residency.md":
        bare = [row for row in found if "`tests/" not in row or row.count("|") != 4]
        assert not bare, f"{bare}: name the test that proves it"


@pytest.mark.parametrize("page", ["README.md", "encryption.md"])
def test_pages_beside_them_lead_somewhere_too(page: str) -> None:
    assert not (wrong := problems((ROOT / "docs" / page).read_text(), ROOT / "docs")), f"{page}: {wrong}"


def test_the_index_of_all_documents_names_every_one() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    missing = [
        page.name for page in (ROOT / "docs").glob("*.md") if page.name not in ("README.md",) and page.name not in index
    ]
    assert not missing, f"{missing}: add a line to docs/README.md"


def test_the_index_names_every_page() -> None:
    index = (FOLDER / "README.md").read_text()
    missing = [page for page in pages() if page != "README.md" and f"]({page})" not in index]
    assert not missing, f"{missing}: add a line to docs/compliance/README.md"


def test_each_rule_bites() -> None:
    assert problems("`service/nothing.py`") == ["service/nothing.py is gone"]
    here = f"tests/architecture/{Path(__file__).name}"
    assert problems(f"`{here}::test_nobody_wrote`") == [f"{here} has no test_nobody_wrote"]
    assert problems("[x](gone.md)") == ["the link gone.md leads nowhere"]
    assert problems(f"`{here}::test_each_rule_bites`, `Dockerfile`, `.github/workflows/ci.yml`") == []
