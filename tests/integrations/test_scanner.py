"""The scanner port against a clamd that finds, fails, hangs and lies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from infra.sandbox.clamd import EICAR, Clamd, ClamdKnobs
from service.core.settings import Settings
from service.guardrails.cards import MASK
from service.integrations.scanner import MOST_BYTES, Scanned, Scanner, ScannerAway


@pytest.fixture
def fresh(clamd: Clamd) -> Iterator[Scanner]:
    """No memory of earlier failures."""
    yield Scanner(Settings(scanner_url=clamd.scanner_url))
    clamd.knobs = ClamdKnobs()


async def parts(*content: bytes) -> AsyncIterator[bytes]:
    for part in content:
        yield part


async def test_clean_and_found(fresh: Scanner, clamd: Clamd) -> None:
    assert await fresh.scan(parts(b"hello", b"there")) == Scanned()
    found = await fresh.scan(parts(EICAR[:20], EICAR[20:]))
    assert found.signature == "Win.Test.EICAR_HDB-1"
    clamd.knobs = ClamdKnobs(signature="Card.4111111111111111-1")
    assert (await fresh.scan(parts(EICAR))).signature == f"Card.{MASK}-1", "its words are kept with the file"


@pytest.mark.parametrize("fault", ["down", "hang", "garbled"])
async def test_no_answer_is_never_clean(fault: str, fresh: Scanner, clamd: Clamd) -> None:
    clamd.knobs = ClamdKnobs(**{fault: True})
    for _ in range(3):
        with pytest.raises(ScannerAway):
            await fresh.scan(parts(b"hello"), deadline=0.2)
    with pytest.raises(ScannerAway, match="left alone"):
        await fresh.scan(parts(b"hello"))


async def test_nobody_there_and_too_much(fresh: Scanner) -> None:
    with pytest.raises(ScannerAway):
        await Scanner(Settings(scanner_url="tcp://127.0.0.1:1")).scan(parts(b"x"))
    with pytest.raises(ScannerAway):
        await fresh.scan(parts(*[bytes(1_048_576)] * (MOST_BYTES // 1_048_576 + 1)))


async def test_none_is_a_choice_that_is_spelled_out() -> None:
    assert await Scanner(Settings(scanner_url="none")).scan(parts(EICAR)) == Scanned()
    for wrong in ("clamd:3310", "http://scanner", "tcp:"):
        with pytest.raises(ValueError, match="SCANNER_URL"):
            Scanner(Settings(scanner_url=wrong))
