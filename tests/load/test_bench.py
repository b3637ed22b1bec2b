"""`make bench` in short: every case still answers alike on the three servers, and the table is whole."""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import PIPE, STDOUT

import pytest


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_every_case_runs_against_every_server() -> None:
    """The bench refuses other statuses and other sizes; a page that changed once left its floor behind."""
    short = ("--seconds", "0.01", "--rounds", "1", "--readings", "2000")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "load.bench", *short, stdout=PIPE, stderr=STDOUT
    )
    out, _ = await process.communicate()
    said = out.decode()
    assert process.returncode == 0, said
    rows = re.findall(r"^\| ([a-z][^|]*) \|(?: [^|]+ \|){9}$", said, re.MULTILINE)
    assert len(rows) == 11, said  # ten cases and the heading
    assert "Resident memory" in said
    assert "Buffers" in said
