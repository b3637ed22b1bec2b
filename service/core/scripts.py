"""Lua scripts in Redis: many steps, one round trip, one deadline, and a breaker for when Redis does not answer.

A hung Redis costs a few requests one timeout each; then only one call a second goes and looks, the others are told at
once. Every answer carries the ticket of its call, so a connection that is out of step can never hand one person
another's session (OpenAI, 20 March 2023: a cancelled call left its answer in the pool).

Limits: key names are built inside the scripts, which Redis Cluster does not allow; one primary with replicas is fine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from hashlib import sha1
from itertools import count
from pathlib import Path
from typing import Any

from hiredis import pack_command
from opentelemetry.trace import SpanKind
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.core import clock, telemetry
from service.core.context import Resources
from service.core.logging import get_logger
from service.core.redis import LOST

PATIENCE = 3
"""Calls in a row without an answer before we stop asking; one alone may be our own busy event loop."""
PAUSE_SECONDS = 1.0

SILENCE: tuple[type[Exception], ...] = (RedisConnectionError, RedisTimeoutError, OSError, TimeoutError)
"""No answer. An answer that says no (read-only, out of memory) is quick, so it needs no breaker."""

SPAN = {"db.system.name": "redis", "db.operation.name": "EVALSHA"}

log = get_logger()
_tickets = count(1)


class Breaker:
    """Remembers that Redis does not answer. One per process and client."""

    def __init__(self) -> None:
        self._failures = 0
        self._next_try = 0.0

    @property
    def is_open(self) -> bool:
        return self._failures >= PATIENCE

    def admits(self) -> bool:
        """Whether this call may ask Redis; while open, one call per pause may."""
        if not self.is_open:
            return True
        now = time.monotonic()
        if now < self._next_try:
            return False
        # A slot in time instead of a "probe is under way" flag: a probe that is cancelled cannot leave it set.
        self._next_try = now + PAUSE_SECONDS
        return True

    def failed(self) -> None:
        self._failures += 1
        if self._failures == PATIENCE:
            self._next_try = time.monotonic() + PAUSE_SECONDS
            log.warning("redis does not answer", pause_seconds=PAUSE_SECONDS)

    def worked(self) -> None:
        if self._failures:
            if self.is_open:
                log.warning("redis answers again")
            self._failures = 0


class Script:
    """Parts of Lua, joined: `Script("greet", FUNCTIONS, "return hello()")`. The server keeps it; we send its SHA-1."""

    def __init__(self, name: str, *parts: str) -> None:
        self.name = name
        body = "\n".join(parts)
        self.source = (
            f"local ticket = table.remove(ARGV, 1)\nlocal function main()\n{body}\nend\nreturn {{ticket, main()}}"
        )
        self.sha = sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    async def run(self, resources: Resources, *arguments: str | bytes | int) -> Any:
        """What the script returns. Raises one of `core.redis.LOST`, after REDIS_TIMEOUT_MS at the latest."""
        breaker = breaker_of(resources)
        if not breaker.admits():
            raise RedisConnectionError("Redis did not answer lately; not asked again yet")
        ticket = next(_tickets)
        pool = resources.redis.connection_pool
        try:
            asked = self._ask(pool, resources.settings.redis_timeout_ms / 1000, ("0", ticket, *arguments))
            trace = telemetry.current_trace()
            answer = await (self._traced(asked) if trace is not None and trace.sampled else asked)
            if not isinstance(answer, list) or answer[:1] != [b"%d" % ticket]:
                await pool.disconnect()
                raise RedisConnectionError("Redis answered another call; all connections were closed")
        except LOST as error:
            telemetry.redis_errors.inc()
            if isinstance(error, SILENCE):
                breaker.failed()
            raise
        breaker.worked()
        return answer[1] if len(answer) == 2 else None

    async def _traced(self, asked: Awaitable[Any]) -> Any:
        with telemetry.span(f"redis {self.name}", SpanKind.CLIENT, **SPAN):
            return await asked

    async def _ask(self, pool: Any, seconds: float, rest: tuple[str | bytes | int, ...]) -> Any:
        """`Redis.execute_command` without its bookkeeping, which would cost a third of the round trip."""
        connection = None
        try:
            # For everything: wait for a connection, connect, greet, send, read.
            async with asyncio.timeout(seconds):
                connection = await pool.get_connection()
                await connection.send_packed_command(_packed("EVALSHA", self.sha, *rest), check_health=False)
                try:
                    return await connection.read_response()
                except NoScriptError:  # a restarted or failed-over server has not seen it yet
                    await connection.send_packed_command(_packed("EVAL", self.source, *rest), check_health=False)
                    return await connection.read_response()
        finally:
            if connection is not None:
                await pool.release(connection)


def _packed(*words: str | bytes | int) -> Any:
    return pack_command(words)  # type: ignore[arg-type]  # its stub means "a tuple of one"


def breaker_of(resources: Resources) -> Breaker:
    try:
        return resources.get(Breaker)
    except KeyError:
        resources.provide(Breaker, fresh := Breaker())
        return fresh


def now_ms() -> int:
    """The service's clock as scripts take it; handed in, so that moving the clock in a test moves Redis too."""
    return int(clock.now().timestamp() * 1000)


def lua(python_file: str, name: str) -> str:
    """The text of a .lua file that lies beside a Python file."""
    return Path(python_file).with_name(name).read_text(encoding="utf-8")
