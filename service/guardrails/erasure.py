"""Leaves nothing of a person in any table but what the map keeps, with its reason: the one walker for every erasure.

Protects from: the table that an erasure forgot (GDPR Art. 17), and the account that is gone while its traces stay. How
to use: nothing; the erasure machine calls `forget_mentions`, then `erase_rows`, for whoever asked, whose account
was deleted long enough ago, and whom a restored backup brought back. What happens to a column is what its model says
(guardrails.personal_data).

Limits: it runs as `ballast_maintenance`; what is not a column is other steps' business. A sealed copy whose key is lost
says to nobody whom it names: it stays until its retention ends.
"""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import uuid4

from sqlalchemy import Column, LargeBinary, MetaData, RowMapping, Table, Uuid, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from service.core.crypto import BadSignature
from service.core.database import Database, UnitOfWork
from service.core.logging import get_logger
from service.guardrails.personal_data import Erasure, privacy_of
from service.guardrails.purge import refuse_while_held
from service.guardrails.sealed import row_names, unseal
from service.guardrails.subjects import (
    By,
    Holding,
    Person,
    address_hash,
    mentions,
    personal_tables,
    references_to,
    rows_of,
    subject_of,
)

log = get_logger()
AT_ONCE = 200
"""Copies that are opened in one go: each may be a hundred kilobytes."""

DOMAIN = "erased.invalid"
"""Of addresses that stand for nobody; the top-level domain that can never receive mail (RFC 2606)."""


async def forget_mentions(database: Database, person: Person, metadata: MetaData) -> Counter[str]:
    """Empty the sealed copies that name this person, and no others; how many of which table. Batches that commit by
    themselves: there may be a quarter's messages to open."""
    done: Counter[str] = Counter()
    for holding in rows_of(person, metadata):
        if not holding.only_candidates:
            continue
        [key] = holding.table.primary_key.columns
        last = None
        while True:
            async with database.unit_of_work() as work:
                await refuse_while_held(work, person.id)
                some = select(holding.table).where(holding.where).order_by(key).limit(AT_ONCE)
                batch = (await work.session.execute(some if last is None else some.where(key > last))).mappings().all()
                if named := [row[key] for row in batch if _names(person, holding, row)]:
                    statement = update(holding.table).where(key.in_(named)).values(_emptied_columns(holding))
                    done[holding.table.name] += await _count(work.session, statement)
            if len(batch) < AT_ONCE:
                break
            last = batch[-1][key]
    return +done


async def erase_rows(work: UnitOfWork, person: Person, metadata: MetaData) -> Counter[str]:
    """Delete, empty or replace all that is about this person; how many rows of which table. Twice changes nothing.

    Raises Conflict while a legal hold keeps it, asked in the transaction that deletes."""
    await refuse_while_held(work, person.id)
    done: Counter[str] = Counter()
    session = work.session
    for holding in reversed(rows_of(person, metadata)):
        if holding.only_candidates:
            continue
        statement: Any = delete(holding.table).where(holding.where)
        if not holding.goes:
            values = _emptied_columns(holding)
            if not values:
                continue
            # Only what still holds something: a second run finds nothing to do, and says so.
            filled = [_is_filled(column) for column in holding.table.columns if column.name in values]
            statement = update(holding.table).where(holding.where, or_(*filled)).values(values)
        done[holding.table.name] += await _count(session, statement)
    for column, where in references_to(person, metadata):
        if changes(column) and not column.foreign_keys:  # a key to the account has emptied itself
            statement = update(column.table).where(where).values({column.name: _emptied(column)})
            done[column.table.name] += await _count(session, statement)
    return +done


async def left_of(work: UnitOfWork, person: Person, metadata: MetaData) -> dict[str, int]:
    """Rows that are still about this person, although they should have gone; empty when the erasure is whole."""
    found = {}
    for holding in rows_of(person, metadata):
        if holding.goes:
            rows = (await work.session.execute(select(holding.table).where(holding.where).limit(1))).all()
            if rows:
                found[holding.table.name] = len(rows)
    return found


async def addresses_behind(work: UnitOfWork, hashes: set[bytes], metadata: MetaData) -> dict[bytes, set[str]]:
    """The addresses in our tables that have one of these keyed hashes: for who is known by nothing else any more."""
    found: dict[bytes, set[str]] = {}
    for table in personal_tables(metadata):
        subject = subject_of(table)
        if subject is None or subject.by is not By.EMAIL:
            continue
        for email in (await work.session.execute(select(table.c[subject.column]).distinct())).scalars():
            if (hashed := address_hash(email)) in hashes:
                found.setdefault(hashed, set()).add(email)
    return found


def changes(column: Column[Any]) -> bool:
    """Whether an erasure changes this column where its row stays."""
    privacy = privacy_of(column)
    return privacy is not None and privacy.erasure in (Erasure.NULL, Erasure.PSEUDONYMIZE)


def unable(table: Table) -> list[str]:
    """Columns that the maintenance role must be able to write: a test compares with its rights."""
    return [column.name for column in table.columns if changes(column) and not column.foreign_keys]


def _names(person: Person, holding: Holding, row: RowMapping) -> bool:
    """Whether this copy is about the person at all."""
    column = holding.table.c[holding.subject.column]
    try:
        opened = unseal(column, row[column], *(row[holding.table.c[name]] for name in row_names(column)))
    except BadSignature:
        log.warning("a sealed copy cannot be opened", table=holding.table.name)
        return False
    return mentions(person, opened)


def _emptied_columns(holding: Holding) -> dict[str, Any]:
    return {column.name: _emptied(column) for column in holding.table.columns if changes(column)}


def _is_filled(column: Column[Any]) -> Any:
    privacy = privacy_of(column)
    if privacy is not None and privacy.erasure is Erasure.NULL:
        return column.is_not(None)
    return column.not_like(f"%@{DOMAIN}") if not isinstance(column.type, LargeBinary | Uuid) else column.is_not(None)


def _emptied(column: Column[Any]) -> Any:
    privacy = privacy_of(column)
    if privacy is None or privacy.erasure is Erasure.NULL:
        return None
    if isinstance(column.type, Uuid):
        return uuid4()
    return uuid4().bytes if isinstance(column.type, LargeBinary) else f"{uuid4().hex}@{DOMAIN}"


async def _count(session: AsyncSession, statement: Any) -> int:
    done: Any = await session.execute(statement, execution_options={"synchronize_session": False})
    return int(done.rowcount)
