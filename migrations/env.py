"""How migrations run: as the owner role, one at a time, and never holding a lock that stops the site.

A migration that waits for a lock makes every later query wait behind it: four seconds of standstill were measured for
one ALTER TABLE behind a report. So each waits 1 s for its lock and gives up; `python -m service migrate` tries again.
"""

from __future__ import annotations

import asyncio
from typing import Any

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from service.catalog import load_tables
from service.core.database import Base, split_tls
from service.core.settings import get_settings

ADVISORY_LOCK = 7_205_759
LOCK_TIMEOUT = "1s"
STATEMENT_TIMEOUT = "10min"

load_tables()


def include_name(name: str | None, kind: str, _: Any) -> bool:
    """pgqueuer's tables come with the library, not from our models."""
    return not (kind == "table" and name is not None and name.startswith("pgqueuer"))


def run(connection: Connection) -> None:
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.execute(text(f"SET statement_timeout = '{STATEMENT_TIMEOUT}'"))
    connection.execute(text(f"SELECT pg_advisory_lock({ADVISORY_LOCK})"))
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_name=include_name,
        compare_type=True,
        compare_server_default=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def run_online() -> None:
    url, tls = split_tls(get_settings().database_owner_url.get_secret_value())
    engine = create_async_engine(url, connect_args={"ssl": tls} if tls else {})
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run)
    finally:
        await engine.dispose()  # or a try that failed keeps the advisory lock, and the next one waits for it in vain


def run_offline() -> None:
    """SQL on standard output, for the linter and for people who review before they run."""
    context.configure(dialect_name="postgresql", target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
        context.execute(f"SET statement_timeout = '{STATEMENT_TIMEOUT}'")
        context.run_migrations()


if context.is_offline_mode():
    run_offline()
elif (shared := context.config.attributes.get("connection")) is not None:
    run(shared)
else:
    asyncio.run(run_online())
