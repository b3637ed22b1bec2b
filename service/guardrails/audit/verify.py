"""Recomputes the log against its seals and names every row that does not fit; one segment in memory at a time."""

from __future__ import annotations

import hmac
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from service.core.database import Database
from service.core.ids import moment_of
from service.core.settings import Settings
from service.guardrails.audit.log import COLUMNS, kept_since, row_hash
from service.guardrails.audit.seal import MEMBER, MOST_ROWS, merkle_root, seal_lag, sign

MOST_PROBLEMS = 100
LATE_SECONDS = 60
NEXT = "SELECT * FROM audit_segments WHERE number > $1 ORDER BY number LIMIT 1"
# From the end of the segment before, so that a row slipped in between two segments is seen too.
READABLE = ", ".join(f"{name}::text" if name in ("changes", "facts") else name for name in COLUMNS)
ROWS = f"""
    SELECT txid, row_hash, {READABLE} FROM audit_log
    WHERE cluster = $1 AND (txid, id) > ($2, $3) AND (txid, id) <= ($4, $5) ORDER BY txid, id LIMIT $6
"""  # noqa: S608 - constant names


@dataclass(slots=True)
class Report:
    """`problems`: (kind, what), the first hundred; `counts`: all, by kind.

    Kinds: changed, missing, inserted, reordered (rows); altered, missing segment, truncated (segments); late.
    """

    rows: int = 0
    purged: int = 0
    """Sealed rows whose time is over and that are gone; how old one was is in its id, which is under the seal."""
    segments: int = 0
    sealed_until: datetime | None = None
    problems: list[tuple[str, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def ok(self) -> bool:
        return not self.counts

    def add(self, kind: str, what: str) -> None:
        self.counts[kind] += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append((kind, what))


async def verify(maintenance: Database, settings: Settings, anchors: Path | None = None) -> Report:
    """Check every row and segment; `anchors`: a log file (JSON lines) with the worker's `audit.sealed` lines."""
    report = Report()
    expected = _read_anchors(anchors) if anchors else {}
    reached: dict[int, tuple[int, UUID]] = {}
    number, previous, since = 0, b"", kept_since(settings)
    while True:
        async with maintenance.unit_of_work(read_only=True) as work:
            segment = await work.raw.fetchrow(NEXT, number)
            if segment is None:
                lag = await seal_lag(work.raw)
                break
            if segment["number"] > number + 1:
                report.add("missing segment", f"segments {number + 1} to {segment['number'] - 1}")
            _check_segment(report, segment, previous, expected, settings)
            await _check_rows(report, work.raw, segment, since, reached.get(segment["cluster"], (0, UUID(int=0))))
        reached[segment["cluster"]] = (segment["last_txid"], segment["last_id"])
        number, previous = segment["number"], segment["seal"]
        report.segments += 1
        report.sealed_until = segment["sealed_at"]
    if (newest := max(expected, default=0)) > number:
        report.add("truncated", f"the anchors know segment {newest}, the log ends at segment {number}")
    if lag > LATE_SECONDS:
        report.add("late", f"rows wait for their seal since {lag:.0f} s: no worker seals, or the seals were cut off")
    return report


def _check_segment(
    report: Report, segment: asyncpg.Record, previous: bytes, expected: dict[int, str], settings: Settings
) -> None:
    name, signature = f"segment {segment['number']}", segment["seal"]
    if (
        not hmac.compare_digest(signature, sign(segment, settings))
        or merkle_root(segment["members"]) != segment["root"]
    ):
        report.add("altered", f"{name}: its seal does not fit its content")
    elif segment["previous_seal"] != previous:
        report.add("altered", f"{name}: it does not follow the segment before it")
    elif expected.get(segment["number"], signature.hex()) != signature.hex():
        report.add("altered", f"{name}: its seal is not the one in the anchors")


async def _check_rows(
    report: Report, raw: asyncpg.Connection[Any], segment: asyncpg.Record, since: datetime, place: tuple[int, UUID]
) -> None:
    sealed = {UUID(bytes=row): (txid, hashed) for row, txid, hashed in MEMBER.iter_unpack(segment["members"])}
    absent, full = set(sealed), True
    while full:
        rows = await raw.fetch(ROWS, segment["cluster"], *place, segment["last_txid"], segment["last_id"], MOST_ROWS)
        for row in rows:
            place = (row["txid"], row["id"])
            absent.discard(row["id"])
            if row["id"] not in sealed:
                report.add("inserted", f"row {row['id']} stands among sealed rows and was never sealed")
            elif not row["row_hash"] == row_hash({name: row[name] for name in COLUMNS}) == sealed[row["id"]][1]:
                report.add("changed", f"row {row['id']} is not what was sealed")
            elif row["txid"] != sealed[row["id"]][0]:
                report.add("reordered", f"row {row['id']} was moved")
        report.rows += len(rows)
        full = len(rows) == MOST_ROWS
    moved = {row["id"] for row in await raw.fetch("SELECT id FROM audit_log WHERE id = ANY($1)", list(absent))}
    for identifier in absent:
        if identifier not in moved and moment_of(identifier) < since:
            report.purged += 1
            continue
        report.add(
            "reordered" if identifier in moved else "missing", f"row {identifier} of segment {segment['number']}"
        )


def _read_anchors(path: Path) -> dict[int, str]:
    with path.open("rb") as lines:
        events = [orjson.loads(line) for line in lines if b'"audit.sealed"' in line]
    return {event["number"]: event["seal"] for event in events}
