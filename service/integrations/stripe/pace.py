"""Whose call goes next: 20 a second per process, 8 at once, people before webhooks before sweeps.

Protects from: a sweep over 100,000 subscriptions that makes a person wait, or that spends what Stripe allows (25 a
second per endpoint and 100 per account, docs.stripe.com/rate-limits); and from slow answers holding every slot: two of
the eight are for people alone.

Limits: each process counts for itself; more than four that call at full speed can meet Stripe's own limit, and then
wait as they are told.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import IntEnum
from itertools import count

from service.core import telemetry
from service.integrations.stripe.errors import StripeAway


class Urgency(IntEnum):
    """Who waits for the answer; the smaller goes first."""

    PERSON = 0
    WEBHOOK = 1
    SWEEP = 2


PATIENCE = {Urgency.PERSON: 3.0, Urgency.WEBHOOK: 10.0, Urgency.SWEEP: 60.0}
"""Seconds until a call that had no turn gives up; a person is better told than kept waiting."""


class Pace:
    """A token bucket and a bulkhead with one queue; `rate` in calls per second, `burst` of them without a pause."""

    def __init__(
        self,
        *,
        rate: float = 20.0,
        burst: int = 5,
        most: int = 8,
        reserved: int = 2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate, self._burst, self._most, self._reserved, self._clock = rate, burst, most, reserved, clock
        self._tokens, self._counted_at = float(burst), clock()
        self._waiting: list[tuple[Urgency, int, asyncio.Future[None]]] = []
        self._order = count()
        self._busy = dict.fromkeys(Urgency, 0)
        self._alarm: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def turn(self, urgency: Urgency) -> AsyncIterator[None]:
        """Hold a slot for the block, once it is this call's turn; raises StripeAway ("crowded") when it never is."""
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (urgency, next(self._order), ready))
        self._admit()
        try:
            try:
                async with asyncio.timeout(PATIENCE[urgency]):
                    await ready
            except TimeoutError as error:
                raise StripeAway("crowded", sent=False) from error
            yield
        finally:
            # Given a turn in the same moment as it was cancelled: the slot must come back all the same.
            if not ready.cancelled():
                self._busy[urgency] -= 1
            self._admit()

    def _admit(self) -> None:
        """Let in whoever is next, as far as slots and tokens go; called whenever one of them may have come free."""
        while self._waiting and self._has_room(self._waiting[0][0]):
            urgency, _, ready = self._waiting[0]
            if not ready.done():
                if (wait := self._until_token()) > 0:
                    self._wake_in(wait)
                    break
                self._tokens -= 1
                self._busy[urgency] += 1
                ready.set_result(None)
            heapq.heappop(self._waiting)
        telemetry.stripe_waiting.set(len(self._waiting))

    def _has_room(self, urgency: Urgency) -> bool:
        total, people = sum(self._busy.values()), self._busy[Urgency.PERSON]
        return total < self._most and (urgency is Urgency.PERSON or total - people < self._most - self._reserved)

    def _until_token(self) -> float:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._counted_at) * self._rate)
        self._counted_at = now
        return (1 - self._tokens) / self._rate

    def _wake_in(self, seconds: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_later(max(seconds, 0.001), self._admit)
