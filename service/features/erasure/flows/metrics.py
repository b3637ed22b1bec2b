"""What operators watch: how long the oldest open request has been waiting."""

from __future__ import annotations

from prometheus_client import Gauge

from service.core import clock, telemetry
from service.core.context import Resources

oldest = Gauge(
    "erasure_oldest_open_seconds", "Age of the oldest open request to be erased", registry=telemetry.REGISTRY
)
OLDEST = "SELECT min(requested_at) FROM erasure_requests WHERE finished_at IS NULL"


async def measure(resources: Resources) -> None:
    async with resources.database.unit_of_work(tenant=None, read_only=True) as work:
        since = await work.raw.fetchval(OLDEST)
    oldest.set((clock.now() - since).total_seconds() if since else 0)
