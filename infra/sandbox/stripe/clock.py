"""The account's time: the machine's, plus what somebody advanced it by; what falls due runs in order of time.

A test clock on real Stripe moves one customer; here it moves the account (docs.stripe.com/billing/testing/test-clocks).
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.sandbox.stripe.store import Account

HOUR = 3600
DAY = 24 * HOUR
Work = Callable[["Account", str], None]
WORK: dict[str, Work] = {}


def when_due(name: str) -> Callable[[Work], Work]:
    """Register what happens when an entry of this name falls due; it gets the object's id, and must look again."""

    def register(work: Work) -> Work:
        WORK[name] = work
        return work

    return register


class Clock:
    """`now`, `at` and `advance`. Entries are plain data, so that they can be looked at."""

    def __init__(self, account: Account) -> None:
        self.ahead = 0.0
        self.due: list[tuple[int, int, str, str]] = []
        self._account = account
        self._stopped_at: int | None = None
        self._sequence = 0
        self._known: set[tuple[int, str, str]] = set()

    def now(self) -> int:
        return self._stopped_at if self._stopped_at is not None else int(time.time() + self.ahead)

    def at(self, moment: int, name: str, object_id: str) -> None:
        """Have the work of this name done for this object, once, at this moment."""
        entry = (int(moment), name, object_id)
        if entry not in self._known:
            self._known.add(entry)
            self._sequence += 1
            heapq.heappush(self.due, (int(moment), self._sequence, name, object_id))

    @contextmanager
    def held(self) -> Iterator[None]:
        """One moment for everything that a request does; advancing lets go of it."""
        self._stopped_at = self.now()
        try:
            yield
        finally:
            self._stopped_at = None

    def advance(self, seconds: float) -> int:
        """Move time forward; everything due in between sees the moment it was due at. Answers the new time."""
        with self._account.lock:
            self.ahead += max(0.0, seconds)
            self._stopped_at = None
            self.catch_up()
            return self.now()

    def advance_to(self, moment: int) -> int:
        """Move to a moment, if it lies ahead. Answers the new time."""
        with self._account.lock:
            return self.advance(moment - self.now())

    def catch_up(self) -> None:
        """Do what has fallen due since the last time somebody asked."""
        if self._stopped_at is not None:
            return
        target = self.now()
        try:
            while self.due and self.due[0][0] <= target:
                moment, _, name, object_id = heapq.heappop(self.due)
                self._known.discard((moment, name, object_id))
                self._stopped_at = moment
                WORK[name](self._account, object_id)
        finally:
            self._stopped_at = None
