"""What staff type as a reason says whom it is about, and the log cannot forget: it does not learn their addresses,
telephone numbers, nor the names of the accounts that its row is about.

Limits: who is named without being the row's subject (a colleague of theirs, a nickname) stays for as long as the log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import asyncpg

from service.guardrails.audit.changes import HIDDEN

ADDRESS = re.compile(r"[^\s@<>]+@[^\s@<>]+")
TELEPHONE = re.compile(r"(?<![\w.-])\(?(?:\+|0)\d(?:[ /()-]{0,2}\d){6,}(?!\w)")
"""As people write it, with its code; a ticket's or an invoice's number begins otherwise."""
IDS = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NAMES = "SELECT name FROM users WHERE id = ANY($1)"
SHORTEST = 3
"""Shorter parts of a name ("de", "Al") are in too many other words' company."""


def without_numbers(reason: str) -> str:
    return TELEPHONE.sub(HIDDEN, ADDRESS.sub(HIDDEN, reason))


async def without_names(raw: asyncpg.Connection[Any], row: Mapping[str, Any]) -> str:
    """The row's reason without the names of every account whose id the row has."""
    reason: str = row["reason"]
    if not reason:
        return reason
    ids = {UUID(found) for found in IDS.findall(row["facts"])} | ({row["object_id"]} - {None})
    names = [record["name"] for record in await raw.fetch(NAMES, list(ids))] if ids else []
    parts = {part for name in names for part in re.findall(r"\w[\w'\u2019-]+", name) if len(part) >= SHORTEST}
    if not parts:
        return reason
    longest_first = sorted(parts, key=len, reverse=True)
    return re.sub(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)", HIDDEN, reason, flags=re.IGNORECASE)
