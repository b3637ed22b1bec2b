"""The breaker: it rests a peer that fails, and a crowd does not fall upon it when it comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from service.core import telemetry
from service.guardrails.circuit_breaker import CLOSED, HALF_OPEN, OPEN, CircuitBreaker, CircuitOpen

FAILURES, WITHIN, REST = 3, 10.0, 5.0


class Away(Exception):
    """What counts."""


class Refused(Exception):
    """What does not: somebody answered."""


class Peer:
    """Something that can be away, counts who asked, and a clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.error: Exception | None = None
        self.asked = 0
        self.pause: asyncio.Event | None = None
        self.breaker = CircuitBreaker(
            "probe", failures=FAILURES, within=WITHIN, rest=REST, counts=(Away,), clock=lambda: self.now
        )

    async def ask(self) -> str:
        async with self.breaker:
            self.asked += 1
            if self.pause is not None:
                await self.pause.wait()
            if self.error is not None:
                raise self.error
            return "answer"

    async def fail(self, times: int, error: Exception | None = None) -> None:
        self.error = error or Away()
        for _ in range(times):
            with pytest.raises(type(self.error)):
                await self.ask()
        self.error = None

    async def open(self) -> None:
        await self.fail(FAILURES)
        self.asked = 0


@pytest.fixture
def peer() -> Peer:
    return Peer()


def state() -> float | None:
    return telemetry.REGISTRY.get_sample_value("circuit_state", {"name": "probe"})


async def outcomes(ask: Callable[[], Awaitable[str]], callers: int) -> list[str]:
    async with asyncio.timeout(60):
        found = await asyncio.gather(*(ask() for _ in range(callers)), return_exceptions=True)
    return [each if isinstance(each, str) else type(each).__name__ for each in found]


async def test_it_opens_after_failures_in_a_row_and_says_when_to_come_back(peer: Peer) -> None:
    assert await peer.ask() == "answer"
    assert state() == CLOSED
    await peer.fail(FAILURES - 1)
    assert await peer.ask() == "answer"
    await peer.fail(FAILURES)
    assert state() == OPEN
    peer.asked = 0
    peer.now += 1.5
    with pytest.raises(CircuitOpen) as refused:
        await peer.ask()
    assert refused.value.retry_after == 4
    assert peer.asked == 0, "an open breaker asks nobody"
    with pytest.raises(CircuitOpen):
        peer.breaker.check()


async def test_failures_far_apart_do_not_open_it(peer: Peer) -> None:
    for _ in range(FAILURES * 2):
        await peer.fail(1)
        peer.now += WITHIN / (FAILURES - 1) + 0.1
    assert state() == CLOSED
    assert await peer.ask() == "answer"


async def test_only_what_the_caller_names_counts(peer: Peer) -> None:
    """A peer that refuses is there; opening for a declined card would pause everybody's billing."""
    await peer.fail(FAILURES * 3, Refused())
    assert await peer.ask() == "answer"
    await peer.open()
    peer.now += REST
    await peer.fail(1, Refused())
    assert state() == CLOSED
    assert await peer.ask() == "answer"


async def test_a_crowd_at_half_open_sends_one_call(peer: Peer) -> None:
    """The libraries that let all of them through bring the peer down again the moment it stands up."""
    await peer.open()
    peer.now += REST
    peer.pause = asyncio.Event()
    first = asyncio.create_task(peer.ask())
    await asyncio.sleep(0)
    assert state() == HALF_OPEN
    assert await outcomes(peer.ask, 99) == ["CircuitOpen"] * 99
    assert peer.asked == 1
    peer.pause.set()
    assert await first == "answer"
    assert state() == CLOSED
    assert await outcomes(peer.ask, 100) == ["answer"] * 100


async def test_a_hundred_at_the_same_instant_send_one_call(peer: Peer) -> None:
    await peer.open()
    peer.now += REST + WITHIN  # one failure is enough now, however long ago the others were
    peer.error, peer.pause = Away(), asyncio.Event()
    asking = asyncio.create_task(outcomes(peer.ask, 100))
    await asyncio.sleep(0.01)
    peer.pause.set()
    assert sorted(await asking) == ["Away"] + ["CircuitOpen"] * 99
    assert peer.asked == 1
    assert state() == OPEN
    peer.now += REST - 0.1
    with pytest.raises(CircuitOpen):
        await peer.ask()


async def test_without_the_one_place_the_whole_crowd_goes_through(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It bites: a breaker that forgets who is trying is the usual kind, and a hundred fall upon the peer."""
    check = peer.breaker.check

    def forget() -> None:
        peer.breaker._probe = None
        check()

    await peer.open()
    peer.now += REST
    peer.pause = asyncio.Event()
    monkeypatch.setattr(peer.breaker, "check", forget)
    asking = asyncio.create_task(outcomes(peer.ask, 100))
    await asyncio.sleep(0.01)
    assert peer.asked == 100
    peer.pause.set()
    await asking


async def test_a_cancelled_probe_leaves_its_place_to_the_next(peer: Peer) -> None:
    """Somebody closed the browser while trying: nothing was learnt, and nobody may be locked out for it."""
    await peer.open()
    peer.now += REST
    peer.pause = asyncio.Event()
    probe = asyncio.create_task(peer.ask())
    await asyncio.sleep(0)
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    assert probe.cancelled()
    assert state() == OPEN
    peer.pause = None
    assert await peer.ask() == "answer"
    assert state() == CLOSED


async def test_what_began_before_it_opened_decides_nothing(peer: Peer) -> None:
    """An answer that was under way for long says how the peer was, not how it is."""
    peer.pause = asyncio.Event()
    early = asyncio.create_task(peer.ask())
    await asyncio.sleep(0)
    slow, peer.pause = peer.pause, None
    await peer.open()
    slow.set()
    assert await early == "answer"
    assert state() == OPEN
    with pytest.raises(CircuitOpen):
        await peer.ask()


async def test_a_deadline_inside_the_block_counts(peer: Peer) -> None:
    breaker = CircuitBreaker("probe", failures=1, counts=(TimeoutError,))
    with pytest.raises(TimeoutError):
        async with breaker, asyncio.timeout(0.01):
            await asyncio.sleep(30)
    with pytest.raises(CircuitOpen):
        breaker.check()
