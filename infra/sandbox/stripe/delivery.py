"""Bring events to endpoints: signed, repeated until accepted, and disturbed as the knobs say.

Each endpoint has a queue of its own, so that one that hangs holds up nobody else. docs.stripe.com/webhooks
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from infra.sandbox.stripe.calls import call
from infra.sandbox.stripe.records import ACCEPTED, FAILED, LOST, WAITING, Attempt, Delivery, Endpoint, Event

if TYPE_CHECKING:
    from infra.sandbox.stripe.store import Account

# Seconds between attempts; Stripe publishes no table, but "up to three days with an exponential back off".
LADDER = (300, 1_800, 7_200, 18_000, 36_000, 43_200, 43_200, 43_200, 43_200)
# Calls of one endpoint at the same time.
WIDTH = 16
# Per endpoint: a receiver that hangs through a storm costs some megabytes, not the machine.
LONGEST_QUEUE = 50_000
KEPT_ATTEMPTS = 20


@dataclass
class Lane:
    """What waits for one endpoint, by the moment it is due, and how many calls of it are open."""

    due: list[tuple[float, int, Delivery]] = field(default_factory=list)
    open: int = 0


class Courier:
    """`queue` and `resend` from any thread; `running` is the part that calls, in the stand-in's loop."""

    def __init__(self, account: Account) -> None:
        self.ladder: tuple[float, ...] = LADDER
        self._account = account
        self._lanes: defaultdict[str, Lane] = defaultdict(Lane)
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()

    def queue(self, event: Event, endpoints: list[Endpoint]) -> None:
        """Plan the deliveries of a new event. All chance but that of signatures is drawn here, in order of events."""
        knobs = self._account.knobs
        for endpoint in endpoints:
            wait = knobs.between("delay") + knobs.within("reorder_window")
            luck, again = knobs.stream("bad_signature").random(), knobs.within("duplicate_within")
            first = Delivery(next(self._numbers), event, endpoint, luck=luck)
            event.deliveries.append(first)
            if knobs.strikes("drop"):
                self._lose(first, "lost: the knob drop said so")
            else:
                self._put(first, wait)
            if knobs.strikes("duplicate"):
                second = Delivery(next(self._numbers), event, endpoint, "duplicate", luck=luck / 2)
                event.deliveries.append(second)
                self._put(second, wait + again)

    def resend(self, event: Event, endpoint_id: str = "") -> list[Delivery]:
        """Deliver once more, now, undisturbed by delay, drop or duplicate; one attempt. Empty where nobody wants it."""
        with self._account.lock:
            ids = [endpoint_id] if endpoint_id else list(self._account.endpoints)
            wanted = [self._account.endpoints[one] for one in ids if one in self._account.endpoints]
            again = [
                Delivery(next(self._numbers), event, one, "resend")
                for one in wanted
                if endpoint_id or one.wants(event.type)
            ]
            event.deliveries.extend(again)
        for delivery in again:
            self._put(delivery, 0.0)
        return again

    def pending(self, *, retries: bool = True) -> int:
        """Deliveries that wait or are under way; without `retries`, those that were tried before do not count."""
        with self._changed:
            waiting = (entry[2] for lane in self._lanes.values() for entry in lane.due)
            count = sum(one.state == WAITING and (retries or not one.attempts) for one in waiting)
            return count + sum(lane.open for lane in self._lanes.values())

    def settle(self, timeout: float = 30.0, *, retries: bool = True) -> bool:
        """Wait until nothing is pending; False after `timeout` seconds. From any thread but the stand-in's own."""
        ends = time.monotonic() + timeout
        while self.pending(retries=retries):
            if (left := ends - time.monotonic()) <= 0:
                return False
            with self._changed:
                self._changed.wait(min(left, 0.05))
        return True

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Call endpoints while inside; what is still queued afterwards stays queued."""
        self._loop = asyncio.get_running_loop()
        # One client for all: each new one would load the certificates again, some 30 ms of work.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=WIDTH)
        async with httpx.AsyncClient(timeout=None, limits=limits, trust_env=False) as client:  # noqa: S113 - see calls.py
            dispatching = asyncio.create_task(self._dispatch(client))
            try:
                yield
            finally:
                self._loop = None
                tasks = [dispatching, *self._calls]
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _dispatch(self, client: httpx.AsyncClient) -> None:
        while True:
            self._wake.clear()
            ready, wait = self._ready()
            for delivery in ready:
                task = asyncio.create_task(self._deliver(client, delivery))
                self._calls.add(task)
                task.add_done_callback(self._calls.discard)
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _ready(self) -> tuple[list[Delivery], float | None]:
        """What may be called now, and the seconds until the next one may (None: when somebody says so)."""
        width = 1 if self._account.knobs.serial else WIDTH
        ready: list[Delivery] = []
        waits: list[float] = []
        with self._changed:
            now = time.monotonic()
            for lane in self._lanes.values():
                while lane.due and lane.open < width and lane.due[0][0] <= now:
                    delivery = heapq.heappop(lane.due)[2]
                    if not delivery.endpoint.is_enabled:
                        delivery.state = FAILED
                    elif delivery.state == WAITING:
                        lane.open += 1
                        ready.append(delivery)
                if lane.due and lane.open < width:
                    waits.append(lane.due[0][0] - now)
        return ready, min(waits, default=None)

    async def _deliver(self, client: httpx.AsyncClient, delivery: Delivery) -> None:
        lane = self._lanes[delivery.endpoint.id]
        try:
            attempt = await call(client, delivery, self._account.knobs)
        except Exception as error:
            # Shown instead of raised: nobody awaits this task, and a delivery that vanished would be a riddle.
            attempt = Attempt(time.time(), 0.0, problem=f"the stand-in failed: {error!r}")
        try:
            self._judge(delivery, attempt)
        finally:
            with self._changed:
                lane.open -= 1
                self._changed.notify_all()
            self._wake_up()

    def _judge(self, delivery: Delivery, attempt: Attempt) -> None:
        """Accepted, to be tried again, or given up. Anything but a 2xx is a refusal, redirects too."""
        with self._account.lock:
            delivery.attempts = [*delivery.attempts, attempt][-KEPT_ATTEMPTS:]
            tried = len(delivery.attempts)
            if attempt.status is not None and 200 <= attempt.status < 300:
                delivery.state = ACCEPTED
            elif delivery.why == "resend" or tried > len(self.ladder) or not delivery.endpoint.is_enabled:
                delivery.state = FAILED
            else:
                self._put(delivery, self.ladder[tried - 1] * self._account.knobs.retry_factor)

    def _put(self, delivery: Delivery, wait: float) -> None:
        with self._changed:
            lane = self._lanes[delivery.endpoint.id]
            is_full = len(lane.due) >= LONGEST_QUEUE
            if not is_full:
                delivery.due = time.monotonic() + wait
                heapq.heappush(lane.due, (delivery.due, delivery.number, delivery))
        if is_full:
            self._lose(delivery, f"lost: {LONGEST_QUEUE} deliveries were waiting for this endpoint")
        self._wake_up()

    def _lose(self, delivery: Delivery, why: str) -> None:
        delivery.state = LOST
        delivery.attempts = [*delivery.attempts, Attempt(time.time(), 0.0, problem=why)]

    def _wake_up(self) -> None:
        loop = self._loop
        if loop is not None and not self._wake.is_set():
            # The stand-in may stop between these two lines; then nobody is left to wake.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._wake.set)
