"""What operators watch: how long somebody has been waiting for a copy of their data."""

from __future__ import annotations

import math

from prometheus_client import Gauge

from service.core import clock, telemetry
from service.core.context import Resources
from service.core.database import UnitOfWork
from service.features.privacy.models.exports import OPEN

oldest = Gauge(
    "exports_oldest_open_seconds", "Age of the oldest copy that waits or is made", registry=telemetry.REGISTRY
)
OLDEST = f"SELECT min(asked_at) FROM data_exports WHERE {OPEN}"  # noqa: S608 - our own constant


async def measure(resources: Resources) -> None:
    """Told by the worker alone, whose role sees everybody."""
    oldest.set(math.nan)
    if resources.maintenance is not None:
        async with resources.maintenance.connection() as connection:
            since = await UnitOfWork(connection).raw.fetchval(OLDEST)
        oldest.set((clock.now() - since).total_seconds() if since else 0)
