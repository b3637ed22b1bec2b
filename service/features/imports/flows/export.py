"""Readings as a CSV file that no spreadsheet runs and that our own import takes back without a change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

from service.core.context import Resources
from service.features.imports.flows.cells import written
from service.features.imports.queries import OF_ONE, WHOLE, Exported
from service.web.sheet import harmless, lines

AT_ONCE = 5_000


async def readings_csv(resources: Resources, organization_id: UUID, wanted: Exported) -> AsyncIterator[str]:
    """Oldest first, AT_ONCE readings per transaction: whoever downloads slowly holds nothing meanwhile."""
    one = wanted.indicator_id is not None
    yield lines([("time", "value") if one else ("indicator", "time", "value")])
    # The moment before the first: what is asked for is what comes after.
    place = wanted.indicator_id or UUID(int=0), wanted.since - timedelta(microseconds=1)
    while True:
        values = {"indicator_id": place[0], "after": place[1], "most": AT_ONCE}
        async with resources.database.unit_of_work(tenant=organization_id, read_only=True) as work:
            if one:
                rows = await work.fetch(OF_ONE, **values)
            else:
                rows = await work.fetch(WHOLE, since=wanted.since, **values)
        if rows:
            place = rows[-1]["indicator_id"], rows[-1]["at"]
            names = ([] if one else [harmless(row["name"])] for row in rows)
            yield lines([*name, written(row["at"]), row["value"]] for name, row in zip(names, rows, strict=True))
        if len(rows) < AT_ONCE:
            return
