"""The file that says what became of each row: kept in pieces, handed out as one CSV."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

from service.core.context import Resources
from service.core.statements import PreparedText
from service.features.imports.flows.store import ADDED, FINE, Verdicts
from service.features.imports.models import State

HEADER = "row,verdict,reason\r\n"
NOT_STORED, NOT_KNOWN = "not stored", "not known"
KEEP = PreparedText("""
    INSERT INTO import_verdicts (organization_id, import_id, number, refused, report)
    VALUES (:context_tenant, :import_id, :number, :refused, :report)
""")
NEXT = PreparedText("""
    SELECT number, report FROM import_verdicts
    WHERE organization_id = :context_tenant AND import_id = :import_id AND number > :after ORDER BY number LIMIT 8
""")


def as_lines(verdicts: Verdicts) -> str:
    return "".join(
        f'{line},{verdict},"{reason}"\r\n' if reason else f"{line},{verdict},\r\n"
        for line, (verdict, reason) in sorted(verdicts.items())
    )


async def hand_out(
    resources: Resources, organization_id: UUID, import_id: UUID, state: State, added: int
) -> AsyncIterator[str]:
    """A transaction per handful of pieces: whoever downloads slowly holds nothing meanwhile."""
    # What became of rows that were only found to be fine at first.
    fate = ADDED if state in (State.STORING, State.DONE) else NOT_KNOWN if added else NOT_STORED
    after = 0
    yield HEADER
    while True:
        async with resources.database.unit_of_work(tenant=organization_id, read_only=True) as work:
            found = await work.fetch(NEXT, import_id=import_id, after=after)
        if not found:
            return
        for row in found:
            yield row["report"].replace(f",{FINE},\r\n", f",{fate},\r\n")
        after = found[-1]["number"]
