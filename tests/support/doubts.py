"""Doubts what models say of their columns: whatever is declared internal is searched for people."""

from __future__ import annotations

from typing import Any

import asyncpg

from service.core.database import Base
from service.guardrails.personal_data import Protection, protection_of

COLUMNS = """
    SELECT table_name AS at, column_name AS name, data_type = 'bytea' AS bytes FROM information_schema.columns
    WHERE table_schema = 'public' AND data_type IN ('text', 'character varying', 'json', 'jsonb', 'bytea', 'ARRAY')
"""
ADDRESS = r"[[:alnum:]._%+-]+@[[:alnum:]-]+\.[[:alpha:]]"
SHORTEST = 6
"""A shorter name may stand anywhere by chance."""
NAMES = "SELECT DISTINCT name FROM users WHERE length(name) >= $1"
FOUND = """
    SELECT left(value, 200) FROM (SELECT {value} AS value FROM "{at}") AS rows
    WHERE value ~* $1 OR EXISTS (SELECT FROM unnest($2::text[]) AS word WHERE position(lower(word) IN lower(value)) > 0)
    LIMIT 1
"""


async def internal_columns(raw: asyncpg.Connection[Any]) -> dict[str, str]:
    """table.column -> how to search it; those that may be logged in clear, as models say, and all of the libraries'."""
    ours = Base.metadata.tables
    return {
        f"{row['at']}.{row['name']}": FOUND.format(value=_text(row), at=row["at"])
        for row in await raw.fetch(COLUMNS)
        if row["at"] not in ours or protection_of(ours[row["at"]].columns[row["name"]]) is Protection.INTERNAL
    }


def _text(row: asyncpg.Record) -> str:
    return f"encode(\"{row['name']}\", 'escape')" if row["bytes"] else f'"{row["name"]}"::text'


async def people_in_internal(raw: asyncpg.Connection[Any], *words: str) -> dict[str, str]:
    """Internal columns in which an address, the name of an account, or one of the words stands, each with a value."""
    sought = [row["name"] for row in await raw.fetch(NAMES, SHORTEST)] + list(words)
    found = {}
    for column, statement in (await internal_columns(raw)).items():
        if (value := await raw.fetchval(statement, ADDRESS, sought)) is not None:
            found[column] = value
    return found
