"""Web processes over a Redis that belongs to the test: it may be hung and killed without hurting anybody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response

from infra.sandbox.redis import EmbeddedRedis
from service.core import clock, telemetry
from service.core.context import Caller, Login, Resources
from service.core.database import Database
from service.core.ids import new_id
from service.core.redis import create_redis
from service.core.settings import Settings
from service.guardrails import sessions

PATIENT_MS = 20_000
"""Far more than Redis needs on a machine that is busy with other tests."""
CALLER = Caller("request", "203.0.113.7", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")


@asynccontextmanager
async def instance(redis: EmbeddedRedis, space: str = "", **settings: Any) -> AsyncIterator[Resources]:
    """What one web process has; two with the same `space` are two processes of one service."""
    values = {"redis_url": SecretStr(redis.url()), "redis_namespace": space or new_id().hex, **settings}
    made = Settings(**{"redis_timeout_ms": PATIENT_MS, **values})
    database = Database(made.database_url.get_secret_value(), made, name="unused", size=1)
    resources = Resources(made, database, create_redis(made))
    try:
        yield resources
    finally:
        await resources.redis.aclose()


async def log_in(resources: Resources, user_id: UUID | None = None, **values: Any) -> tuple[str, Login]:
    """A session with everything that a test does not care about filled in."""
    usual: dict[str, Any] = {"organization_id": new_id(), "epoch": 1, "methods": ("password",), "caller": CALLER}
    return await sessions.begin(resources, user_id=user_id or new_id(), **{**usual, **values})


def page() -> None:
    """An endpoint without a policy of its own."""


def request(
    token: str | None = None,
    *,
    address: str = "203.0.113.7",
    method: str = "GET",
    endpoint: Callable[..., Any] = page,
    cookie: str | None = None,
) -> Request:
    """A request as the door sees it: after the outer layers, with its route found."""
    cookie = f"sid={token}" if token else cookie
    headers = [(b"cookie", cookie.encode())] if cookie else []
    return Request(
        {
            "type": "http", "method": method, "path": "/", "query_string": b"", "headers": headers,
            "endpoint": endpoint, "state": {"address": address, "request_id": "request"},
        }
    )  # fmt: skip


def cookies_of(response: Response) -> dict[str, str]:
    """Name to value of what the response sets."""
    lines = [value.decode() for name, value in response.raw_headers if name == b"set-cookie"]
    return dict(line.partition(";")[0].split("=", 1) for line in lines)


def later(**span: float) -> None:
    """Move the service's clock."""
    clock.advance(timedelta(**span))


class Heartbeat:
    """Counts how often the event loop came round while a block ran: a blocked loop does not come round."""

    beats = 0


@asynccontextmanager
async def heartbeat() -> AsyncIterator[Heartbeat]:
    heart = Heartbeat()

    async def beat() -> None:
        while True:
            await asyncio.sleep(0.005)
            heart.beats += 1

    task = asyncio.create_task(beat())
    await asyncio.sleep(0)
    try:
        yield heart
    finally:
        task.cancel()


@contextmanager
def hung(redis: EmbeddedRedis) -> Iterator[None]:
    """Inside the block Redis keeps its connections open and answers nothing."""
    redis.pause()
    try:
        yield
    finally:
        redis.resume()


async def comes_true(question: Callable[[], Awaitable[bool]], seconds: float = 60) -> bool:
    """Ask again until the answer is yes; gives up after `seconds`."""
    async with asyncio.timeout(seconds):
        while not await question():
            await asyncio.sleep(0.05)
    return True


def failed_redis_calls() -> float:
    return float(telemetry.redis_errors._value.get())
