"""What the pages on compliance promise is proved by tests that exist, and done by files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.architecture.conftest import ROOT

PAGES = sorted([*(ROOT / "docs" / "compliance").glob("*.md"), ROOT / "docs" / "encryption.md"])
NAMED = re.compile(r"`((?:tests|service|ops|docs|infra)/[\w./-]+)(?:::\w+)*`")
LINK = re.compile(r"\]\(([\w./-]+)\)")
WITH_PROOF = {"hipaa.md": 10, "pci.md": 8}
"""Pages whose table says for each requirement what proves it, and how many rows it had."""


def missing(page: Path) -> tuple[int, list[str]]:
    """(how many places the page names, those that do not exist)"""
    text = page.read_text()
    paths = [ROOT / found for found in NAMED.findall(text)] + [page.parent / found for found in LINK.findall(text)]
    return len(paths), [str(path) for path in paths if not path.exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_only_what_exists(page: Path) -> None:
    assert missing(page)[1] == []


@pytest.mark.parametrize("name", WITH_PROOF)
def test_every_requirement_has_a_mechanism_and_a_proof(name: str) -> None:
    lines = (ROOT / "docs" / "compliance" / name).read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][1:]
    assert len(rows) >= WITH_PROOF[name]
    weak = [row[0] for row in rows if len(row) != 3 or not row[1] or "`tests/" not in row[2]]
    assert not weak, f"{weak}: requirement, mechanism, and the test that proves it"


def test_the_check_bites(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("`tests/guardrails/test_nothing.py::test_x` `service/app.py` [x](gone.md)")
    seen, found = missing(page)
    assert seen == 3
    assert len(found) == 2
    assert sum(missing(one)[0] for one in PAGES) >= 40
