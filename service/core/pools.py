"""Connections that are lent and come back: counted, and never waited for longer than agreed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import asyncpg
from sqlalchemy.exc import TimeoutError as PoolTimeout

from service.core import telemetry
from service.core.errors import Unavailable
from service.core.regions import everywhere
from service.core.settings import Settings

REACH = everywhere("one PostgreSQL, at home, with every organization's rows")

Lent = TypeVar("Lent")


class Pool:
    """Connections of one kind; `name` labels their metrics and tells PostgreSQL whose they are."""

    def __init__(self, settings: Settings, name: str, size: int) -> None:
        self.name, self.size = name, size
        self.options: dict[str, Any] = {
            "timeout": 5,
            "statement_cache_size": 512,
            "server_settings": {
                "application_name": f"ballast-{name}",
                "statement_timeout": str(settings.database_statement_timeout_ms),
                "lock_timeout": str(settings.database_lock_timeout_ms),
                "idle_in_transaction_session_timeout": str(settings.database_idle_in_transaction_timeout_ms),
            },
        }
        telemetry.db_pool_size.labels(name).set(size)
        telemetry.db_pool_timeouts.labels(name)  # exists from the start, or the first time-outs have no rate
        self._in_use = telemetry.db_pool_in_use.labels(name)
        self._waiting = telemetry.db_pool_waiting.labels(name)
        self._wait = telemetry.db_pool_wait.labels(name)

    async def lend(self, take: Awaitable[Lent]) -> Lent:
        """What `take` gets from the pool, counted as in use; raises Unavailable."""
        began = time.perf_counter()
        self._waiting.inc()
        try:
            connection = await take
        except PoolTimeout as error:
            telemetry.db_pool_timeouts.labels(self.name).inc()
            raise Unavailable("All database connections are busy.", retry_after=2) from error
        except (OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError) as error:
            raise Unavailable("The database cannot be reached.", retry_after=5) from error
        finally:
            self._waiting.dec()
            self._wait.observe(time.perf_counter() - began)
        self._in_use.inc()
        return connection


class DriverPool(Pool):
    """The driver's own, for single statements that commit by themselves: SQLAlchemy's way to a connection and back
    took longer than saving a message."""

    def __init__(self, url: str, settings: Settings, *, name: str, size: int) -> None:
        super().__init__(settings, name, size)
        self.url, self.patience = url, settings.database_pool_timeout_seconds
        self._pool: asyncpg.Pool[Any] | None = None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection[Any]]:
        """Raises Unavailable when none is free within the pool timeout."""
        if self._pool is None:
            # Opens none yet, and so never waits. Nothing to undo between two borrowers: none of them sets anything.
            self._pool = await asyncpg.create_pool(
                self.url, min_size=0, max_size=self.size, reset=_keep, **self.options
            )
        connection = await self.lend(self._take(self._pool))
        try:
            yield connection
        finally:
            self._in_use.dec()
            await self._pool.release(connection)

    async def _take(self, pool: asyncpg.Pool[Any]) -> asyncpg.Connection[Any]:
        try:
            async with asyncio.timeout(self.patience):
                return cast("asyncpg.Connection[Any]", await pool.acquire())
        except TimeoutError as error:
            raise PoolTimeout from error

    async def dispose(self) -> None:
        if self._pool is not None:
            await self._pool.close()


async def _keep(_: asyncpg.Connection[Any]) -> None:
    """Without this the driver sends four statements after each of ours."""
