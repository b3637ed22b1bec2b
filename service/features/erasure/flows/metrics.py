"""What operators watch: requests that are late, and those that a lawsuit keeps, which nobody can hurry."""

from __future__ import annotations

from prometheus_client import Gauge

from service.core import clock, telemetry
from service.core.context import Resources
from service.features.erasure.models import LATE

late = Gauge("erasure_late", "Requests to be erased that are open for twenty days", registry=telemetry.REGISTRY)
held = Gauge("erasure_held", "Open requests to be erased that a legal hold keeps", registry=telemetry.REGISTRY)
OPEN = """
    SELECT count(*) FILTER (WHERE kept) AS held, count(*) FILTER (WHERE NOT kept AND requested_at < $1) AS late
    FROM (
        SELECT requested_at,
            EXISTS (SELECT FROM legal_holds WHERE subject_id = user_id AND lifted_at IS NULL) AS kept
        FROM erasure_requests WHERE finished_at IS NULL
    ) AS waiting
"""


async def measure(resources: Resources) -> None:
    async with resources.database.unit_of_work(tenant=None, read_only=True) as work:
        found = await work.raw.fetchrow(OPEN, clock.now() - LATE)
    late.set(found["late"])
    held.set(found["held"])
