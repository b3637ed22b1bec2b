"""`make headline` in short: two of the five storms; ours is right in both, the usual handler in the serial one."""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

STORMS = "serial", "concurrent"
ROW = re.compile(r"^\| ([^|]+) \| [\d,]+ \| [\d,]+ \| (\d+) of 20 \| \*\*(\d+)\*\* of 20 \|", re.MULTILINE)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_the_usual_handler_loses_changes_and_ours_does_not(tmp_path: Path) -> None:
    """Two events 200 ms apart, the second write lost: an app that was right in every test of one event at a time."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "load.headline", "--into", str(tmp_path),
        "--customers", "20", "--pace", "20", "--seed", "7",
        *(word for name in STORMS for word in ("--only", name)),
        stdout=PIPE, stderr=STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    said = out.decode()
    found = {storm: (int(naive), int(ours)) for storm, naive, ours in ROW.findall(said)}
    assert process.returncode == 0, said
    assert tuple(found) == STORMS, said
    assert {ours for _, ours in found.values()} == {0}
    assert found["serial"][0] == 0, "a handler that fails one event after the other proves nothing"
    assert found["concurrent"][0] > 0, said
    assert "seed 7" in said
    assert (tmp_path / "headline.md").read_text().count("of 20 |") == 2 * len(STORMS)
    drawn = ET.parse(tmp_path / "headline.svg").getroot()
    assert [each.tag.rpartition("}")[2] for each in drawn][:2] == ["title", "desc"]
