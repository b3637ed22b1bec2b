"""What jobs there are: filled by the decorators when a feature's jobs.py is loaded (by the web process too)."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any, TypeVar
from uuid import UUID

import orjson
from pydantic import TypeAdapter

from service.core.context import Resources
from service.core.database import Database
from service.guardrails.cards import without_cards

Body = Callable[..., Awaitable[None]]
F = TypeVar("F", bound=Body)


@dataclass(frozen=True, slots=True)
class Event:
    """The recorded fact that an action happened; what subscribers get. Facts travel as JSON: ids arrive as text."""

    action: str
    object_type: str
    object_id: UUID | None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a job is run in all, and how long it waits: doubled each time, jittered, never over `longest`."""

    attempts: int = 8
    first: timedelta = timedelta(seconds=2)
    longest: timedelta = timedelta(hours=1)

    def delay(self, earlier_attempts: int) -> timedelta:
        # Jitter: a thousand jobs that failed together must not come back together.
        wait = min(self.longest, self.first * float(2 ** min(earlier_attempts, 30)))
        return wait * random.uniform(0.5, 1)  # noqa: S311 - spreading, not secrecy


@dataclass(frozen=True)
class Job:
    """One registered job; `name` is "<feature>.<function>", so renaming a function needs an empty queue."""

    name: str
    body: Body
    key: str | None
    retry: Retry
    timeout: timedelta
    maintenance: bool
    schedule: str | None = None

    @cached_property
    def _types(self) -> dict[str, TypeAdapter[Any]]:
        parameters = list(inspect.signature(self.body, eval_str=True).parameters.values())[1:]
        return {parameter.name: TypeAdapter(parameter.annotation) for parameter in parameters}

    def pack(self, arguments: dict[str, Any]) -> bytes:
        """The arguments as stored. Raises TypeError, at the call site, for a name the job does not take."""
        inspect.signature(self.body).bind(None, **arguments)
        return without_cards(orjson.dumps(arguments, default=str))

    def line(self, arguments: dict[str, Any]) -> str | None:
        """Jobs of one line run one at a time, in the order they were enqueued."""
        if self.key is None:
            return None
        event = arguments.get("event")
        return f"{self.name}:{getattr(event, self.key) if isinstance(event, Event) else arguments[self.key]}"

    def unpack(self, stored: bytes) -> dict[str, Any]:
        """The arguments as the body declares them: a UUID is a UUID again. Raises ValidationError."""
        return {name: self._types[name].validate_python(value) for name, value in orjson.loads(stored).items()}


Loop = Callable[[Resources, Database, asyncio.Event], Awaitable[None]]
JOBS: dict[str, Job] = {}
STANDING: dict[str, Loop] = {}
GIVEN_UP: set[str] = set()
"""What of it is cancelled as soon as its worker is to end."""
SUBSCRIBERS: dict[Callable[..., Any], list[Job]] = defaultdict(list)
WITHIN: dict[Callable[..., Any], list[Body]] = defaultdict(list)
USUAL_TIMEOUT = timedelta(seconds=30)


def job(
    *, key: str | None = None, retry: Retry | None = None, timeout: timedelta = USUAL_TIMEOUT, maintenance: bool = False
) -> Callable[[F], F]:
    """Register `async def body(ctx, **arguments)`. `key` names the argument whose value orders the jobs.

    `timeout` is for the whole body. `maintenance` runs it as the maintenance role, which sees every organization.
    """
    return lambda body: _register(body, key, retry, timeout, maintenance)


def on(
    *actions: Callable[..., Any],
    key: str | None = None,
    retry: Retry | None = None,
    timeout: timedelta = USUAL_TIMEOUT,
) -> Callable[[F], F]:
    """Run `async def body(ctx, event)` after each success of any of these; `key="object_id"` keeps a record's order."""

    def decorate(body: F) -> F:
        _register(body, key, retry, timeout, maintenance=False)
        for action in actions:
            SUBSCRIBERS[action].append(job_of(body))
        return body

    return decorate


def within(action: Callable[..., Any]) -> Callable[[F], F]:
    """Run `async def body(ctx, event)` inside the action's own transaction, after it and before the commit.

    For a row that must exist exactly when the change does, in the order of the changes (an outbox of one's own). When
    it raises, the action has failed: keep it to one statement, and never wait for anybody.
    """

    def decorate(body: F) -> F:
        WITHIN[action].append(body)
        return body

    return decorate


def periodic(
    cron: str, *, retry: Retry | None = None, timeout: timedelta = USUAL_TIMEOUT, maintenance: bool = True
) -> Callable[[F], F]:
    """Run `async def body(ctx)` by the clock (UTC, cron syntax); once, however many workers there are."""
    return lambda body: _register(body, None, retry, timeout, maintenance, cron)


def standing(name: str, *, give_up: bool = False) -> Callable[[Loop], Loop]:
    """Run `async def body(resources, maintenance, stop)` in every worker for as long as it lives.

    For work that must not hold a transaction while it waits for somebody else's server: a job's body is one
    transaction. It opens units of work of its own, keeps its own queue in a table, rests with `pause`, and ends when
    `stop` is set; with `give_up`, for long work that another worker takes up, it is cancelled then.
    """

    def decorate(body: Loop) -> Loop:
        if name in STANDING:
            raise ValueError(f"two standing works are called {name!r}")
        STANDING[name] = body
        if give_up:
            GIVEN_UP.add(name)
        return body

    return decorate


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Rest in what stands, and no longer than until `stop`: a worker that ends waits for each of them."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


def job_of(body: Body) -> Job:
    """Raises LookupError for a function that is no job."""
    found = JOBS.get(_name(body))
    if found is None or found.body is not body:
        raise LookupError(f"{body.__qualname__} is not registered as a job; decorate it with @job")
    return found


def _register(
    body: F, key: str | None, retry: Retry | None, timeout: timedelta, maintenance: bool, schedule: str | None = None
) -> F:
    name = _name(body)
    if name in JOBS:
        raise ValueError(f"two jobs are called {name!r}")
    JOBS[name] = Job(name, body, key, retry or Retry(), timeout, maintenance, schedule)
    return body


def _name(body: Body) -> str:
    module = body.__module__.removeprefix("service.").removeprefix("features.").removeprefix("guardrails.")
    return f"{module.split('.')[0]}.{body.__name__}"
