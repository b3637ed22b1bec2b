"""One unit of work per request or job: one connection, one transaction, opened in a single round trip.

How: the engine runs in AUTOCOMMIT, so SQLAlchemy never opens a transaction of its own; `UnitOfWork.begin` sends
`BEGIN; SET LOCAL app.tenant = ...` as one message (SQLAlchemy alone needs two), and everything after it, whether
through the ORM session or through a prepared read, runs inside that transaction on that connection.

Limits: a statement sent outside a unit of work commits by itself and, with no tenant set, sees no tenant's rows.
`docs/decisions/0002-one-transaction-by-hand.md` has the numbers.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from uuid import UUID

import asyncpg
from sqlalchemy import TIMESTAMP, MetaData, Uuid, event
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Session

from service.core import telemetry
from service.core.errors import Unavailable
from service.core.pools import Pool
from service.core.regions import everywhere
from service.core.settings import Settings
from service.core.statements import AnyPrepared

REACH = everywhere("one PostgreSQL, at home, with every organization's rows")

NAMING = {
    "pk": "pk_%(table_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}

# The last one is what asyncpg raises between the server's farewell and the end of the stream.
LOST: tuple[type[Exception], ...] = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""What a statement on the driver raises when it fails or when the connection is gone."""


class Base(DeclarativeBase):
    """Every table of the service; constraint names are predictable so that migrations and errors can name them."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {datetime: TIMESTAMP(timezone=True), UUID: Uuid(), dict[str, Any]: JSONB()}


class GuardedSession(Session):
    """The only session class of the service; the guard rails listen to its events and filter what it reads."""


class Database(Pool):
    """A pool for one database role: app, or maintenance."""

    def __init__(self, url: str, settings: Settings, *, name: str = "app", size: int | None = None) -> None:
        super().__init__(settings, name, size or settings.database_pool_size)
        url, tls = split_tls(url)
        self.engine = create_async_engine(
            url,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,  # an error's text ends in the log; parameters are addresses and password hashes
            pool_size=self.size,
            max_overflow=0,
            pool_timeout=settings.database_pool_timeout_seconds,
            pool_recycle=1800,
            pool_use_lifo=True,
            connect_args={**self.options, **({"ssl": tls} if tls else {})},
        )
        event.listen(self.engine.sync_engine, "before_cursor_execute", _remember_start)
        event.listen(self.engine.sync_engine, "after_cursor_execute", _record)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """A pooled connection; raises Unavailable when none is free within the pool timeout."""
        connection = await self.lend(self.engine.connect())
        sync = connection.sync_connection
        assert sync is not None  # noqa: S101 - narrows the type: the connection is open
        driver = sync.connection.driver_connection
        try:
            yield connection
        finally:
            self._in_use.dec()
            # A failover ended it in the middle of a statement on the driver, which SQLAlchemy did not see: handed back
            # as it is, it would fail the next borrower, and the one after.
            if not sync.invalidated and driver is not None and driver.is_closed():
                sync.invalidate()
            await connection.close()

    @asynccontextmanager
    async def unit_of_work(
        self, *, tenant: UUID | None = None, user: UUID | None = None, read_only: bool = False, staff: bool = False
    ) -> AsyncIterator[UnitOfWork]:
        """Commit when the block ends, roll back when it raises. The answer leaves only after this has returned."""
        async with self.connection() as connection:
            work = UnitOfWork(connection)
            work.staff = staff
            with overload_is_unavailable():
                try:
                    await work.begin(tenant=tenant, user=user, read_only=read_only)
                    yield work
                    await work.commit()
                finally:
                    await work.close()

    async def dispose(self) -> None:
        await self.engine.dispose()


class UnitOfWork:
    """One transaction. Whoever began it ends it: `Database.unit_of_work`, a request's context or the job runner."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        raw = connection.sync_connection
        assert raw is not None  # noqa: S101 - narrows the type: the connection is open
        self.raw: asyncpg.Connection[Any] = raw.connection.driver_connection
        self._session: AsyncSession | None = None
        self.tenant: UUID | None = None
        self.user: UUID | None = None
        self.read_only = False
        self.staff = False
        """Whether one of our own people looks: what row-level security then shows them, migrations/ddl.py says."""
        self._open = False

    @property
    def session(self) -> AsyncSession:
        """The ORM session of this transaction, made when first asked for: pure reads never pay for it."""
        if self._session is None:
            self._session = AsyncSession(
                self._connection, sync_session_class=GuardedSession, expire_on_commit=False, autoflush=True
            )
            self._session.info["tenant"] = self.tenant
        return self._session

    async def begin(self, *, tenant: UUID | None, user: UUID | None, read_only: bool) -> None:
        self.read_only, self._open = read_only, True
        await self._send(f"BEGIN{' READ ONLY' if read_only else ''}; {self._scope(tenant, user)}")

    async def act_for(self, *, tenant: UUID | None, user: UUID | None) -> None:
        """Point row-level security at another organization or person for the rest of the transaction."""
        if self._session is not None:
            await self._session.flush()
            self._session.info["tenant"] = tenant
        await self._send(self._scope(tenant, user))

    async def fetch(self, statement: AnyPrepared, /, **values: Any) -> list[asyncpg.Record]:
        """The rows of a prepared read, inside this transaction; pending ORM changes are flushed first."""
        if self._session is not None:
            await self._session.flush()
        sql, arguments = statement.bind(values, tenant=self.tenant, user=self.user)
        began = time.time_ns()
        try:
            rows: list[asyncpg.Record] = await self.raw.fetch(sql, *arguments)
            return rows
        finally:
            telemetry.record_statement(sql, began)

    async def fetch_one(self, statement: AnyPrepared, /, **values: Any) -> asyncpg.Record | None:
        rows = await self.fetch(statement, **values)
        return rows[0] if rows else None

    async def abandon(self) -> None:
        """Undo everything and go on read-only: after a failed action the page may still read to explain itself.

        Without this, a route that catches the error and answers 422 would commit the half that was done.
        """
        if self._session is not None:
            await self._session.close()
            self._session = None
        if not self.raw.is_closed():
            self.read_only = True
            await self._send(f"ROLLBACK; BEGIN READ ONLY; {self._scope(self.tenant, self.user)}")

    async def commit(self) -> None:
        """Flush and commit; an error here must reach the caller, or the answer would promise lost data."""
        if self._session is not None:
            await self._session.commit()
        await self._send("COMMIT")
        self._open = False

    async def close(self) -> None:
        """Leave nothing behind: an open transaction is rolled back, a broken connection is thrown away."""
        try:
            if self._session is not None:
                await self._session.close()
            if self._open and not self.raw.is_closed():
                await self._send("ROLLBACK")
                self._open = False
        except LOST:
            pass  # thrown away below
        finally:
            # Also when we are cancelled once more while we wait (a client that hangs up in the middle of a download):
            # the pool's own reset does nothing under AUTOCOMMIT, and the next request would run in this transaction.
            if self._open:
                self.raw.terminate()
            if self.raw.is_closed() and (connection := self._connection.sync_connection) is not None:
                connection.invalidate()

    def _scope(self, tenant: UUID | None, user: UUID | None) -> str:
        # SET LOCAL ends with the transaction; a plain SET would leak this tenant to the pool's next user.
        self.tenant, self.user = tenant, user
        staff = "; SET LOCAL app.staff = 'on'" if self.staff else ""
        return f"SET LOCAL app.tenant = '{tenant or ''}'; SET LOCAL app.\"user\" = '{user or ''}'{staff}"

    async def _send(self, sql: str) -> None:
        await self.raw.execute(sql)


OVERLOAD = {
    "55P03": "The record is busy.",  # lock_not_available
    "57014": "The database took too long.",  # query_canceled: statement_timeout
    "40001": "Two changes met.",  # serialization_failure
    "40P01": "Two changes met.",  # deadlock_detected
    "25P03": "The request took too long.",  # idle_in_transaction_session_timeout
    "53300": "The database is at its limit.",  # too_many_connections
    "57P01": "The database is restarting.",  # admin_shutdown
    "57P03": "The database is starting.",  # cannot_connect_now
}


@contextmanager
def overload_is_unavailable() -> Iterator[None]:
    """A time-out, a deadlock or a restart is nobody's mistake: 503 and try again, not 500."""
    try:
        yield
    except (asyncpg.PostgresError, DBAPIError) as error:
        state = str(getattr(error, "sqlstate", None) or getattr(getattr(error, "orig", None), "sqlstate", None) or "")
        # Class 08 is a connection that ended under a statement: a failover, a network, an operator's kill.
        if state in OVERLOAD or state.startswith("08"):
            raise Unavailable(OVERLOAD.get(state, "The connection to the database was lost."), retry_after=2) from error
        raise
    except (asyncpg.InterfaceError, ConnectionError) as error:
        raise Unavailable("The connection to the database was lost.", retry_after=2) from error


def split_tls(url: str) -> tuple[str, str | ssl.SSLContext | None]:
    """A libpq address as SQLAlchemy wants it for asyncpg, and its sslmode on the side; with sslrootcert as a context,
    because the driver takes that name in an address only."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    tls: str | ssl.SSLContext | None = query.pop("sslmode", None)
    if (authority := query.pop("sslrootcert", None)) and tls in ("verify-full", "verify-ca"):
        context = ssl.create_default_context(cafile=authority)
        context.check_hostname = tls == "verify-full"
        tls = context
    scheme = "postgresql+asyncpg" if parts.scheme in {"postgres", "postgresql"} else parts.scheme
    return urlunsplit((scheme, parts.netloc, parts.path, urlencode(query), "")), tls


def _remember_start(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
    connection.info["began"] = time.time_ns()


def _record(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
    telemetry.record_statement(statement, connection.info["began"])
