"""What operators watch: rows by verdict, how imports end, and how long the oldest open one has been waiting."""

from __future__ import annotations

import math

from prometheus_client import Counter, Gauge

from service.core import telemetry
from service.core.context import Resources
from service.core.database import UnitOfWork

REGISTRY = telemetry.REGISTRY
rows = Counter("import_rows_total", "Rows of uploaded files", ("verdict",), registry=REGISTRY)
ended = Counter("imports_ended_total", "Imports by how they ended", ("state",), registry=REGISTRY)
oldest = Gauge("imports_oldest_open_seconds", "Since when an open import has not come further", registry=REGISTRY)
# The first of each organization's line, for which the others wait. One in trouble has turns and gets no further.
OLDEST = """
    SELECT extract(epoch FROM now() - min(coalesce(CASE WHEN remark = '' THEN served_at END, created_at)))::float8
    FROM imports AS waiting WHERE object_key IS NOT NULL AND NOT EXISTS (
        SELECT FROM imports AS earlier WHERE earlier.organization_id = waiting.organization_id
        AND earlier.object_key IS NOT NULL AND earlier.state <> 'arriving' AND earlier.id < waiting.id
    )
"""


async def measure(resources: Resources) -> None:
    """Told by the worker alone, whose role sees every organization."""
    oldest.set(math.nan)
    if resources.maintenance is not None:
        async with resources.maintenance.connection() as connection:
            oldest.set(await UnitOfWork(connection).raw.fetchval(OLDEST) or 0)
