"""What staff type as a reason says whom it is about, and the log cannot forget: it does not learn their addresses,
telephone numbers, nor the names of the accounts that its row is about.

A whole name goes however it is written; a part of it where it is written as a name, with a capital, so that nobody
takes the words of what was found out of the log by calling themselves like them.

Limits: who is named without being the row's subject (a colleague of theirs, a nickname), or by half their name in small
letters, stays for as long as the log; and somebody called Will loses a "Will" that begins a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import asyncpg

from service.guardrails.audit.changes import HIDDEN

ADDRESS = re.compile(r"[^\s@<>]+@[^\s@<>]+")
DATE = r"\d{1,2}[/-]\d{1,2}[/-]\d{4}(?!\d)"
TELEPHONE = re.compile(rf"(?<![\w.-])(?!{DATE})\(?(?:\+|0)\d(?:[ /()-]{{0,2}}\d){{6,}}(?!\w)")
"""As people write it, with its code; a ticket's or an invoice's number begins otherwise."""
IDS = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NAMES = "SELECT name FROM users WHERE id = ANY($1)"
SHORTEST = 3
"""Shorter parts of a name ("de", "Al") are in too many other words' company."""
MOST_PARTS = 6
"""More words than that are no name, whatever their owner says."""


def without_numbers(reason: str) -> str:
    return TELEPHONE.sub(HIDDEN, ADDRESS.sub(HIDDEN, reason))


async def without_names(raw: asyncpg.Connection[Any], row: Mapping[str, Any]) -> str:
    """The row's reason without the names of every account whose id the row has."""
    reason: str = row["reason"]
    if not reason:
        return reason
    ids = {UUID(found) for found in IDS.findall(row["facts"] + row["changes"])}
    ids |= {row["object_id"], row["on_behalf_of"]} - {None}
    names = [record["name"] for record in await raw.fetch(NAMES, list(ids))] if ids else []
    return hidden(reason, names)


def hidden(reason: str, names: list[str]) -> str:
    """The reason without these names, and without the parts of each."""
    written = sorted({one for name in names for one in _written(name.split())}, key=len, reverse=True)
    return re.sub(rf"(?<!\w)(?:{'|'.join(written)})(?!\w)", HIDDEN, reason) if written else reason


def _written(words: list[str]) -> Iterator[str]:
    """Patterns for a name as people write it."""
    if len(words) > 1:
        yield "(?i:" + r"\s+".join(map(re.escape, words)) + ")"
    if len(words) > MOST_PARTS:
        return
    for part in re.findall(r"\w[\w'\u2019-]+", " ".join(words)):
        for one in {part, *part.split("-")}:
            if len(one) >= SHORTEST:
                yield from (re.escape(each) for each in {one[0].upper() + one[1:], one.capitalize(), one.upper()})
