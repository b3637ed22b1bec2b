"""Whose call goes next, at a clock that moves only when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from service.integrations.stripe import pace as pacing
from service.integrations.stripe.errors import StripeAway
from service.integrations.stripe.pace import Pace, Urgency

PERSON, WEBHOOK, SWEEP = Urgency


class Line:
    """A pace with calls that stay until they are let go; `went` names them in the order of their turns."""

    def __init__(self, **limits: int) -> None:
        self.now = 0.0
        # A fast bucket at a slow clock: the real timer looks again every millisecond and finds the time we set.
        self.pace = Pace(rate=1_000.0, clock=lambda: self.now, **limits)
        self.went: list[str] = []
        self.done = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []

    def join(self, name: str, urgency: Urgency, *, stays: bool = False) -> asyncio.Task[None]:
        async def call() -> None:
            async with self.pace.turn(urgency):
                self.went.append(name)
                if stays:
                    await self.done.wait()

        self.tasks.append(asyncio.create_task(call()))
        return self.tasks[-1]

    async def pass_time(self, tokens: float) -> None:
        self.now += tokens / 1_000.0
        await asyncio.sleep(0.02)


@asynccontextmanager
async def line(**limits: int) -> AsyncIterator[Line]:
    made = Line(**limits)
    try:
        yield made
    finally:
        made.done.set()
        for task in made.tasks:
            task.cancel()
        await asyncio.gather(*made.tasks, return_exceptions=True)


async def test_scenario_74_no_more_go_than_the_bucket_holds() -> None:
    async with line(burst=5, most=100, reserved=0) as here:
        for number in range(12):
            here.join(str(number), WEBHOOK)
        await here.pass_time(0)
        assert here.went == ["0", "1", "2", "3", "4"], "a burst, in the order they came"
        await here.pass_time(3)
        assert len(here.went) == 8
        await here.pass_time(100)
        assert len(here.went) == 12


async def test_an_idle_bucket_does_not_overflow() -> None:
    async with line(burst=5, most=100, reserved=0) as here:
        here.now += 3600.0
        for number in range(50):
            here.join(str(number), SWEEP)
        await here.pass_time(0)
        assert len(here.went) == 5


async def test_scenario_74_people_go_before_webhooks_before_sweeps() -> None:
    async with line(burst=1, most=100, reserved=0) as here:
        here.join("first", SWEEP)
        await here.pass_time(0)
        for number in range(20):
            here.join(f"sweep {number}", SWEEP)
        for number in range(3):
            here.join(f"webhook {number}", WEBHOOK)
        await here.pass_time(0)
        here.join("person", PERSON)
        for _ in range(5):
            await here.pass_time(1)
        assert here.went == ["first", "person", "webhook 0", "webhook 1", "webhook 2", "sweep 0"]


async def test_two_places_are_kept_for_people() -> None:
    async with line(burst=100) as here:
        for number in range(10):
            here.join(f"sweep {number}", SWEEP, stays=True)
        await here.pass_time(0)
        assert len(here.went) == 6
        for number in range(4):
            here.join(f"person {number}", PERSON, stays=True)
        await here.pass_time(0)
        assert here.went[6:] == ["person 0", "person 1"], "eight at once, and no more"
        here.done.set()
        await here.pass_time(0)
        assert here.went[8:10] == ["person 2", "person 3"]
        assert len(here.went) == 14


async def test_without_kept_places_a_person_waits_behind_slow_sweeps() -> None:
    """It bites: the reserve is what lets people in."""
    async with line(burst=100, reserved=0) as here:
        for number in range(8):
            here.join(f"sweep {number}", SWEEP, stays=True)
        here.join("person", PERSON)
        await here.pass_time(100)
        assert "person" not in here.went


async def test_who_waits_too_long_is_told_and_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pacing.PATIENCE, PERSON, 0.02)
    async with line(burst=100, most=1, reserved=0) as here:
        here.join("slow", SWEEP, stays=True)
        await here.pass_time(0)
        with pytest.raises(StripeAway) as away:
            await here.join("person", PERSON)
        assert (away.value.reason, away.value.sent) == ("crowded", False)
        here.done.set()
        await here.pass_time(0)
        await here.join("next", SWEEP)
        assert here.went == ["slow", "next"]


async def test_places_of_cancelled_calls_come_back() -> None:
    """Waiting, at work, or given a turn in the very moment of the cancellation."""
    async with line(burst=1_000, most=2, reserved=0) as here:
        for _ in range(20):
            here.done.clear()
            at_work = [here.join("at work", WEBHOOK, stays=True) for _ in range(2)]
            await here.pass_time(0)
            waiting = here.join("waiting", WEBHOOK)
            await asyncio.sleep(0)
            for task in (*at_work, waiting):
                task.cancel()
            await asyncio.gather(*at_work, waiting, return_exceptions=True)
        just_admitted = [here.join("just admitted", WEBHOOK) for _ in range(2)]
        await asyncio.sleep(0)
        for task in just_admitted:
            task.cancel()
        await asyncio.gather(*just_admitted, return_exceptions=True)
        here.went.clear()
        await asyncio.gather(here.join("next", SWEEP), here.join("next", SWEEP))
        assert here.went == ["next", "next"]
