"""Counting how often something happens, in Redis or, while Redis is away, in this process.

The rule is GCRA (a token bucket kept as one number): "5 in 15 minutes" is a burst of 5 that comes back one by one,
every 3 minutes. A refused attempt costs nothing, so waiting always helps and nobody can be kept out for ever.
Right after a pause up to twice the number fits into one window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from service.core.scripts import lua

COUNT_LUA = lua(__file__, "buckets.lua")
"""Defines `count(now, step, first, user, organization)`, for the scripts that need it."""

SWEEP_EVERY_MS = 1_000


class Bucket(NamedTuple):
    """`whose` completes the name: u by the session's user, o by its organization; d counts different targets."""

    name: str
    whose: str
    limit: int
    window_ms: int


class Counted(NamedTuple):
    """The tightest bucket, in milliseconds; `wait` is 0 when the request was admitted."""

    wait: int
    limit: int = 0
    remaining: int = 0
    empty_in: int = 0


class LocalBuckets:
    """The same rule in this process's memory, bounded: an attacker must not fill it while Redis is away.

    Counts what needs no session store: neither people nor different targets.
    """

    def __init__(self, most: int = 10_000) -> None:
        self.most = most
        self.empty_at: dict[str, float] = {}
        self._swept_at = 0

    def count(self, buckets: Sequence[Bucket], now: int, step: int, *, closed: bool) -> Counted:
        """`closed` allows a tenth of each limit, and refuses when there is no memory left to count in."""
        wait, tightest, fullest = 0.0, Counted(0), -1.0
        changes: dict[str, float] = {}
        for name, whose, full_limit, window in buckets:
            if whose:
                continue
            limit = max(1, full_limit // 10) if closed else full_limit
            interval = window / limit
            after = max(now, max(now, self.empty_at.get(name, now)) + step * interval)
            if step > 0 and (over := after - now - window) > interval / 2:
                wait = max(wait, over)
            changes[name] = after
            if (share := (after - now) / window) > fullest:
                fullest = share
                tightest = Counted(0, limit, max(0, int((1 - share) * limit + 0.001)), int(after - now))
        if wait:
            return tightest._replace(wait=math.ceil(wait))
        if self._has_room(changes, now):
            self.empty_at.update(changes)
        elif closed:
            return Counted(wait=SWEEP_EVERY_MS)
        return tightest

    def _has_room(self, changes: dict[str, float], now: int) -> bool:
        if len(self.empty_at) + len(changes) > self.most and now - self._swept_at >= SWEEP_EVERY_MS:
            self._swept_at = now
            self.empty_at = {name: at for name, at in self.empty_at.items() if at > now}
        return len(self.empty_at) + len(changes) <= self.most or changes.keys() <= self.empty_at.keys()
