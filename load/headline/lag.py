"""How long ours needed: from a change at Stripe to the moment our copy was seen to say the same."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg

from load.headline.people import Person
from load.headline.truth import OURS, State, copies, told

LOOK_SECONDS = 0.05


@dataclass
class Watch:
    """Looks every 50 ms at whoever changed; of two changes in a row that were never seen apart, the later counts.

    `database` is a connection for nobody else.
    """

    database: asyncpg.Connection
    samples: list[float] = field(default_factory=list)
    _waiting: dict[str, tuple[float, State]] = field(default_factory=dict)
    _last: dict[str, State] = field(default_factory=dict)

    async def changed(self, person: Person) -> None:
        now = told(person)
        if self._last.get(person.customer) != now:
            self._last[person.customer] = now
            self._waiting[person.customer] = (time.monotonic(), now)

    def percentile(self, share: float) -> float:
        """In seconds."""
        ordered = sorted(self.samples) or [0.0]
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    async def look(self) -> None:
        found = await copies(self.database, OURS, self._waiting)
        now = time.monotonic()
        for customer, state in found.items():
            since, wanted = self._waiting[customer]
            if state == wanted:
                self.samples.append(now - since)
                del self._waiting[customer]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Watch]:
        """Watch while inside; what went wrong with looking is raised there."""
        ended = asyncio.Event()

        async def watch() -> None:
            while not ended.is_set():
                if self._waiting:
                    await self.look()
                await asyncio.sleep(LOOK_SECONDS)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watch())
            try:
                yield self
            finally:
                ended.set()
        await self.look()
