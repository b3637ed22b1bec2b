"""How far a copy is, for the page; and whether it is still ours to make."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from service.core import clock
from service.core.database import Database

LEASE = timedelta(seconds=60)
TELL_SECONDS = 2.0
TELL = """
    UPDATE data_exports SET done = $3, parts = $4, rows = $5, leased_until = $6
    WHERE id = $1 AND claim = $2 AND state = 'building' RETURNING 1
"""


class Lost(Exception):
    """Another worker has taken over, or nobody wants it any more."""


@dataclass(slots=True)
class Progress:
    maintenance: Database
    export_id: UUID
    claim: UUID
    asked_at: datetime
    parts: int = 0
    done: int = 0
    rows: int = 0
    missing: list[str] = field(default_factory=list)
    told_at: float = 0.0

    async def tick(self, rows: int = 0) -> None:
        """Call it after every batch: renews the lease every two seconds. Raises Lost."""
        self.rows += rows
        if time.monotonic() - self.told_at >= TELL_SECONDS:
            await self.tell()

    async def tell(self) -> None:
        self.told_at = time.monotonic()
        values = (self.export_id, self.claim, self.done, self.parts, self.rows, clock.now() + LEASE)
        async with self.maintenance.unit_of_work() as work:
            if await work.raw.fetchval(TELL, *values) is None:
                raise Lost
