"""Jobs that failed at every attempt: pgqueuer's table as a thing to select from, without what the jobs carry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    Column,
    ColumnClause,
    Integer,
    MetaData,
    String,
    Table,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB

from service.core.database import UnitOfWork
from service.guardrails.jobs.queue import replay

QUEUE = Table(
    "pgqueuer",
    MetaData(),
    Column("id", BigInteger, primary_key=True),
    Column("entrypoint", String, nullable=False),
    Column("headers", JSONB),
    Column("attempts", Integer, nullable=False),
    Column("created", TIMESTAMP(timezone=True), nullable=False),
    Column("updated", TIMESTAMP(timezone=True), nullable=False),
    Column("execute_after", TIMESTAMP(timezone=True), nullable=False),
)
"""The columns that the application may read; not in our metadata, because the library's migration made it."""
FAILED: ColumnClause[bool] = literal_column("pgqueuer.status = 'failed'")
LETTERS = select(
    QUEUE.c.id,
    QUEUE.c.entrypoint.label("name"),
    QUEUE.c.headers["tenant"].astext.label("organization_id"),
    QUEUE.c.headers["error"].astext.label("error"),
    QUEUE.c.attempts,
    QUEUE.c.updated.label("gave_up_at"),
).where(FAILED)
ORDER = (QUEUE.c.updated.desc(), QUEUE.c.id.desc())


async def replay_some(work: UnitOfWork, terms: Sequence[Any], most: int) -> list[str]:
    """Give the oldest that fit their attempts back; the name of each."""
    found = await _oldest(work, terms, most)
    await replay(work, [row.id for row in found])
    return [row.entrypoint for row in found]


async def discard_some(work: UnitOfWork, terms: Sequence[Any], most: int) -> list[str]:
    """Forget the oldest that fit, for good; the name of each."""
    found = await _oldest(work, terms, most)
    await work.raw.execute(
        "DELETE FROM pgqueuer WHERE id = ANY($1::bigint[]) AND status = 'failed'", [row.id for row in found]
    )
    return [row.entrypoint for row in found]


async def _oldest(work: UnitOfWork, terms: Sequence[Any], most: int) -> Sequence[Any]:
    some = select(QUEUE.c.id, QUEUE.c.entrypoint).where(FAILED, *terms).order_by(QUEUE.c.updated).limit(most)
    return (await work.session.execute(some.with_for_update())).all()
