"""What the stand-in remembers of events and of bringing them to endpoints."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

# The oldest give way, so that a stand-in left alone for a week of storms does not fill the machine.
KEPT_EVENTS = 50_000

WAITING, ACCEPTED, FAILED, LOST = "waiting", "accepted", "failed", "lost"


def is_only_thin(event_type: str) -> bool:
    """Whether Stripe makes no snapshot of this event: faults of meters, and whatever version 2 of the API tells."""
    return event_type.startswith(("v1.", "v2."))


def thin_type(event_type: str) -> str:
    return event_type if is_only_thin(event_type) else f"v1.{event_type}"


@dataclass(slots=True, eq=False)
class Endpoint:
    """Somebody who wants events: snapshots, as /v1/webhook_endpoints makes them, or thin ones, as /v2 does."""

    id: str
    url: str
    enabled_events: list[str]
    created: int
    secrets: list[tuple[str, float]]  # with the moment each ends, on the machine's clock
    kind: str = "snapshot"
    api_version: str | None = None
    name: str = ""
    description: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    is_enabled: bool = True

    def wants(self, event_type: str) -> bool:
        """A snapshot has no type of the other kind, and some events are only ever told thinly."""
        name = thin_type(event_type) if self.kind == "thin" else event_type
        is_told = self.kind == "thin" or not is_only_thin(event_type)
        return self.is_enabled and is_told and ("*" in self.enabled_events or name in self.enabled_events)

    @property
    def live_secrets(self) -> list[str]:
        """Newest first; during a roll the old one still signs."""
        now = time.time()
        return [secret for secret, until in self.secrets if until > now]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of an endpoint: no status means that no answer came, and `problem` says why."""

    started: float
    milliseconds: float
    status: int | None = None
    answer: str = ""
    problem: str = ""
    remark: str = ""


@dataclass(slots=True, eq=False)
class Delivery:
    """One event on its way to one endpoint; `why` is event, duplicate or resend."""

    number: int
    event: Event
    endpoint: Endpoint
    why: str = "event"
    state: str = WAITING
    due: float = 0.0
    luck: float = 0.0
    attempts: list[Attempt] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Event:
    """Kept as the bytes that are sent: a twentieth of what the objects would take."""

    id: str
    type: str
    created: int
    object_id: str
    customer: str
    body: bytes
    deliveries: list[Delivery] = field(default_factory=list)

    @property
    def pending(self) -> int:
        """Endpoints that have not accepted it yet."""
        accepted = {one.endpoint.id for one in self.deliveries if one.state == ACCEPTED}
        return len({one.endpoint.id for one in self.deliveries} - accepted)

    def snapshot(self) -> dict[str, Any]:
        """The event as `/v1/events` shows it."""
        shown: dict[str, Any] = json.loads(self.body)
        return shown | {"pending_webhooks": self.pending}


class EventLog:
    """Events by id in order of creation, the last 50,000."""

    def __init__(self, kept: int = KEPT_EVENTS) -> None:
        self._events: dict[str, Event] = {}
        self._kept = kept

    def __len__(self) -> int:
        return len(self._events)

    def add(self, event: Event) -> None:
        self._events[event.id] = event
        if len(self._events) > self._kept:
            oldest = self._events.pop(next(iter(self._events)))
            for delivery in oldest.deliveries:
                if delivery.state == WAITING:
                    delivery.state = LOST

    def get(self, event_id: str) -> Event | None:
        return self._events.get(event_id)

    def newest_first(self) -> Iterator[Event]:
        return reversed(list(self._events.values()))

    def oldest_first(self) -> Iterator[Event]:
        return iter(list(self._events.values()))
