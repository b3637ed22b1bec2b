"""Rows against what is stored: which are new, which are there already, which contradict; and storing the new ones.

A reading's moment is its identity, so whatever is sent twice (a file, a piece of it after a crash) is stored once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from service.core import clock
from service.core.database import UnitOfWork
from service.core.statements import PreparedText
from service.features.imports.flows.parse import Parsed
from service.features.indicators.actions import APPEND, LOCKED

ADDED, FINE, UNCHANGED, REFUSED = "added", "fine", "unchanged", "refused"
Verdicts = dict[int, tuple[str, str]]
"""Line -> the verdict, and the reason of a refusal."""

NAMED = PreparedText("""
    SELECT given.name, indicators.id
    FROM unnest(CAST(:names AS text[])) AS given(name)
    JOIN indicators ON lower(indicators.name) = lower(given.name)
    WHERE indicators.organization_id = :context_tenant AND indicators.deleted_at IS NULL
""")
# What the readings and the rows kept aside know of the same moments.
KNOWN = PreparedText("""
    SELECT sent.place - 1 AS place, coalesce(stored.value, staged.value) = sent.value AS same,
        stored.value IS NULL AS staged
    FROM unnest(
        CAST(:indicators AS uuid[]), CAST(:ats AS timestamptz[]), CAST(:readings AS double precision[])
    ) WITH ORDINALITY AS sent(indicator_id, at, value, place)
    LEFT JOIN readings AS stored ON stored.organization_id = :context_tenant
        AND stored.indicator_id = sent.indicator_id AND stored.at = sent.at
    LEFT JOIN import_rows AS staged ON staged.organization_id = :context_tenant AND staged.import_id = :import_id
        AND staged.indicator_id = sent.indicator_id AND staged.at = sent.at
    WHERE stored.value IS NOT NULL OR staged.value IS NOT NULL
""")
STAGE = PreparedText("""
    INSERT INTO import_rows (organization_id, import_id, indicator_id, at, value, line)
    SELECT :context_tenant, :import_id, sent.* FROM unnest(
        CAST(:indicators AS uuid[]), CAST(:ats AS timestamptz[]), CAST(:readings AS double precision[]),
        CAST(:lines AS integer[])
    ) AS sent
""")
TAKE = PreparedText("""
    DELETE FROM import_rows
    WHERE organization_id = :context_tenant AND import_id = :import_id AND (indicator_id, at) IN (
        SELECT indicator_id, at FROM import_rows
        WHERE organization_id = :context_tenant AND import_id = :import_id ORDER BY indicator_id, at LIMIT :most
    )
    RETURNING line, indicator_id, at, value
""")
UNKNOWN = "There is no indicator of this name. Create it first, or correct the spelling."
GONE = "The indicator has been deleted. Bring it back from the bin first."
ARCHIVED = "The indicator is archived and takes no readings. Bring it back from the archive first."
CONTRADICTS = "Another value is stored for this moment. Correct the stored one on its page, or leave the row out."
TWICE = "An earlier row of the file has another value for this moment. Leave one of them out."


@dataclass(frozen=True, slots=True)
class Reading:
    line: int
    indicator_id: UUID
    at: datetime
    value: float


async def read(work: UnitOfWork, parsed: Parsed, indicator_id: UUID | None) -> tuple[list[Reading], Verdicts]:
    """Rows with their indicators, locked; those of unknown, deleted and archived ones are refused."""
    verdicts = {line: (REFUSED, reason) for line, reason in parsed.wrong.items()}
    known: dict[str, UUID] = {}
    if indicator_id is not None:
        known[""] = indicator_id
    elif names := list({row.indicator for row in parsed.rows}):
        known = {row["name"]: row["id"] for row in await work.fetch(NAMED, names=names)}
    alive = {row["id"]: row["archived_at"] for row in await work.fetch(LOCKED, ids=list(known.values()))}
    readings = []
    for row in parsed.rows:
        if (found := known.get(row.indicator)) is None:
            verdicts[row.line] = (REFUSED, UNKNOWN)
        elif found not in alive:
            verdicts[row.line] = (REFUSED, GONE)
        elif alive[found] is not None:
            verdicts[row.line] = (REFUSED, ARCHIVED)
        else:
            readings.append(Reading(row.line, found, row.at, row.value))
    return readings, verdicts


async def append(work: UnitOfWork, readings: list[Reading], verdicts: Verdicts) -> None:
    """Store what is new, with the statement of the API's own batches; the verdict on each is added."""
    readings = _distinct(readings, verdicts)
    [stored] = await work.fetch(APPEND, now=clock.now(), **_columns(readings))
    verdicts |= {each.line: (ADDED, "") for each in readings}
    verdicts |= {readings[place].line: (UNCHANGED, "") for place in stored["unchanged"]}
    verdicts |= {readings[place].line: (REFUSED, CONTRADICTS) for place in stored["contradicted"]}


async def set_aside(work: UnitOfWork, readings: list[Reading], verdicts: Verdicts, import_id: UUID) -> None:
    """Keep what would be new until all rows are known to be good; the verdict on each is added."""
    readings = _distinct(readings, verdicts)
    known = await work.fetch(KNOWN, import_id=import_id, **_columns(readings))
    verdicts |= {each.line: (FINE, "") for each in readings}
    for row in known:
        refusal = REFUSED, TWICE if row["staged"] else CONTRADICTS
        verdicts[readings[row["place"]].line] = (UNCHANGED, "") if row["same"] else refusal
    new = [each for each in readings if verdicts[each.line][0] == FINE]
    await work.fetch(STAGE, import_id=import_id, lines=[each.line for each in new], **_columns(new))


def _distinct(readings: list[Reading], verdicts: Verdicts) -> list[Reading]:
    """The first of each moment: one statement cannot store two."""
    first: dict[tuple[UUID, datetime], Reading] = {}
    for each in readings:
        earlier = first.setdefault((each.indicator_id, each.at), each)
        if earlier is not each:
            verdicts[each.line] = (UNCHANGED, "") if earlier.value == each.value else (REFUSED, TWICE)
    return list(first.values())


def _columns(readings: list[Reading]) -> dict[str, list[object]]:
    return {
        "indicators": [each.indicator_id for each in readings],
        "ats": [each.at for each in readings],
        "readings": [each.value for each in readings],
    }


async def take(work: UnitOfWork, import_id: UUID, most: int) -> list[Reading]:
    """Some of what was kept aside, which is then no longer."""
    return [Reading(**row) for row in await work.fetch(TAKE, import_id=import_id, most=most)]
