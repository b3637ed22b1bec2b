"""`make bench` in short: every case still answers alike on each server, and the tables are whole."""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import PIPE, STDOUT

import pytest


async def bench(*words: str) -> str:
    """What it prints when every run is short. It refuses other statuses, other sizes and missing rows by itself."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "load.bench", "--rounds", "1", *words, stdout=PIPE, stderr=STDOUT
    )
    out, _ = await process.communicate()
    said = out.decode()
    assert process.returncode == 0, said
    return said


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_every_case_runs_against_every_server() -> None:
    """A page that changed once left its floor behind."""
    said = await bench("--parts", "pages", "--seconds", "0.01", "--readings", "2000")
    rows = re.findall(r"^\| ([a-z][^|]*) \|(?: [^|]+ \|){9}$", said, re.MULTILINE)
    assert len(rows) == 11, said  # ten cases and the heading
    assert "Resident memory" in said
    assert "Buffers" in said


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_batches_are_measured_and_none_of_their_readings_is_missing() -> None:
    """It counts the rows by itself; how fast they come, a busy machine cannot say."""
    said = await bench("--parts", "ingest", "--seconds", "0.1")
    [row] = re.findall(r"^\| readings in batches of 1,000 \|(.+)\|$", said, re.MULTILINE)
    assert all(float(rate.replace(",", "")) > 0 for rate in row.split("|")[:2]), said


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_billing_is_measured_and_a_burst_takes_few_readings() -> None:
    """Two dozen events of one upgrade: a reading for each would meet Stripe's limit with twenty customers at once."""
    said = await bench("--parts", "billing", "--seconds", "0.1", "--changes", "2")
    assert len(re.findall(r"^\| [a-z][^|]* \|(?: [^|]+ \|){6}$", said, re.MULTILINE)) == 4, said
    assert len(re.findall(r"^\| [^|]+ \|(?: [\d.]+ m?s \|){2}[^|]+\|$", said, re.MULTILINE)) == 4, said
    found = re.search(r"(\d+) events, (\d+) readings of the customer .* (\d+) calls of Stripe's API", said)
    assert found, said
    events, readings, calls = map(int, found.groups())
    assert events >= 16
    assert 1 <= readings <= 4
    assert readings < calls < events


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_an_import_is_measured_beside_a_copy_and_stays_small() -> None:
    """A file four times as long must not need more memory: a worker's limit is set once, files come in every size."""
    said = await bench("--parts", "imports", "--rows", "4000", "16000")
    rows = re.findall(r"^\| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d.]+) \| (-?[\d.]+) MB \|$", said, re.MULTILINE)
    assert [row[0] for row in rows] == ["4,000", "16,000"], said
    assert float(rows[1][4]) < 40, said


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_server_that_hangs_is_measured_beside_those_that_answer() -> None:
    """It refuses by itself when a message does not arrive."""
    said = await bench("--parts", "outgoing", "--messages", "60")
    assert len(re.findall(r"^\| [^|]+ \| [\d.]+ s \|$", said, re.MULTILINE)) == 2, said
    found = re.search(r"Ratio of the two: ([\d.]+)", said)
    assert found, said
