"""Circuit breaker: stop asking a peer that keeps failing, and let a single call find out whether it is back.

Protects from: everybody waiting for the full deadline of a peer that is away, and from the crowd that falls upon it the
moment it returns: when half-open exactly ONE call goes through, all others are refused at once.

How to use: one breaker per peer and process, `async with breaker:` around the call and INSIDE its queue, with the
deadline inside the block (a call cancelled from outside says nothing about the peer); `counts` names the exceptions
that mean "the peer is away". Any other end, a refusal included, is an answer: the peer is there.

Limits: each process learns for itself. Failures count while they come in a row, so a peer that fails every other call
stays open to all; that is what retries are for. One call per task at a time.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

from service.core import telemetry

CLOSED, HALF_OPEN, OPEN = 0, 1, 2


class CircuitOpen(Exception):
    """The peer is not asked at the moment; `retry_after` in whole seconds."""

    def __init__(self, name: str, retry_after: int) -> None:
        super().__init__(f"{name} is not asked for the next {retry_after} seconds")
        self.retry_after = retry_after


class CircuitBreaker:
    """Opens after `failures` in a row within `within` seconds, for `rest` seconds."""

    def __init__(
        self,
        name: str,
        *,
        failures: int = 5,
        within: float = 10.0,
        rest: float = 5.0,
        counts: tuple[type[BaseException], ...] = (Exception,),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._within, self._rest, self._counts, self._clock = within, rest, counts, clock
        self._failed: deque[float] = deque(maxlen=failures)
        self._opened: float | None = None
        self._probe: asyncio.Task[object] | None = None
        self._show(CLOSED)

    @property
    def is_closed(self) -> bool:
        return self._opened is None

    def check(self) -> None:
        """Raise CircuitOpen when a call would be refused, so that nobody queues for that."""
        if self._opened is None:
            return
        wait = self._opened + self._rest - self._clock()
        if wait > 0 or self._probe is not None:
            raise CircuitOpen(self.name, max(1, math.ceil(wait)))

    async def __aenter__(self) -> None:
        self.check()
        if self._opened is not None:
            self._probe = asyncio.current_task()
            self._show(HALF_OPEN)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        probing = self._probe is not None and self._probe is asyncio.current_task()
        if probing:
            self._probe = None
        elif self._opened is not None:
            return  # began before it opened: the probe alone decides
        if kind is not None and issubclass(kind, self._counts):
            self._fail(probing)
        elif kind is None or issubclass(kind, Exception):
            self._failed.clear()
            self._opened = None
            self._show(CLOSED)
        elif probing:
            self._show(OPEN)  # cancelled: nothing was learnt, and the next call tries

    def _fail(self, probing: bool) -> None:
        now = self._clock()
        self._failed.append(now)
        if probing or (len(self._failed) == self._failed.maxlen and now - self._failed[0] <= self._within):
            self._opened = now
            self._show(OPEN)

    def _show(self, state: int) -> None:
        telemetry.circuit_state.labels(self.name).set(state)
