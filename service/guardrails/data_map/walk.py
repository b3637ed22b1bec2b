"""Reading all rows of a table that somebody is owed, a batch at a time: never all of them in memory, never in one long
transaction, which would keep the audit log from being sealed.

Limits: rows that change meanwhile are as they are when their batch is read; a row that is added behind the place
reached is seen, one before it is not.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from enum import Enum, IntEnum
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Column, ColumnElement, Table, literal, select, tuple_

from service.core.database import Database

BATCH = 1_000
Row = Mapping[str, Any]


async def batches(
    database: Database,
    table: Table,
    columns: Sequence[Column[Any]],
    where: ColumnElement[bool],
    *,
    tenant: UUID | None = None,
    batch: int = BATCH,
) -> AsyncIterator[list[Row]]:
    """The rows in order of their key. With `tenant` as the application's role: row-level security is a second wall."""
    keys = list(table.primary_key.columns)
    wanted = list(dict.fromkeys([*columns, *keys]))
    last: list[Any] | None = None
    while True:
        found = select(*wanted).where(where).order_by(*keys).limit(batch)
        if last is not None:
            after = [literal(value, key.type) for value, key in zip(last, keys, strict=True)]
            found = found.where(tuple_(*keys) > tuple_(*after))
        async with database.unit_of_work(tenant=tenant, read_only=True) as work:
            rows: list[Row] = [dict(row) for row in (await work.session.execute(found)).mappings()]
        if rows:
            yield rows
            last = [rows[-1][key.name] for key in keys]
        if len(rows) < batch:
            return


def as_json(row: Row, names: Sequence[str]) -> bytes:
    """One row as people and programs read it: bytes in base64, words instead of numbers for what has a name."""
    return orjson.dumps({name: _plain(row[name]) for name in names}, default=_other)


def _plain(value: Any) -> Any:
    return value.name.lower() if isinstance(value, IntEnum) else value.value if isinstance(value, Enum) else value


def _other(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes | memoryview) else str(value)
