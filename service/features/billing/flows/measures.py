"""What the tables say about billing at this moment, as gauges: asked for each time /metrics is read."""

from __future__ import annotations

import math
from collections import Counter

from service.core.context import Resources
from service.core.database import UnitOfWork
from service.features.billing.flows import metrics
from service.features.billing.flows.drift import KINDS

MEASURE = """
    SELECT
        coalesce((SELECT extract(epoch FROM now() - min(received_at))::float8 FROM inbox
            WHERE source = 'stripe' AND state = 'pending'), 0) AS inbox_oldest,
        (SELECT count(*) FROM inbox WHERE source = 'stripe' AND state = 'unmatched') AS inbox_unmatched,
        coalesce((SELECT extract(epoch FROM now() - received_at)::float8 / 86400 FROM inbox
            WHERE type = 'invoice.paid' ORDER BY id DESC LIMIT 1), 'NaN') AS silence,
        (SELECT jsonb_object_agg(stream, drift) FROM billing_sweeps) AS drift,
        count(*) FILTER (WHERE dead_at IS NULL) AS dirty,
        coalesce(extract(epoch FROM now() - min(dirty_since)
            FILTER (WHERE dead_at IS NULL))::float8, 0) AS dirty_oldest,
        count(*) FILTER (WHERE dead_at IS NOT NULL) AS dead
    FROM billing_customers WHERE dirty_gen > synced_gen AND livemode = $1
"""
UNKNOWN = """
    SELECT extract(epoch FROM now() - min(first_sent_at))::float8 FROM billing_operations WHERE status = 'unknown'
"""
GAUGES = {
    name: getattr(metrics, name)
    for name in ("inbox_oldest", "inbox_unmatched", "silence", "dirty", "dirty_oldest", "dead")
}


async def measure(resources: Resources) -> None:
    """Set the gauges; what operations wait for is told by the worker alone, whose role sees every organization."""
    for gauge in (*GAUGES.values(), metrics.unknown_oldest):
        gauge.set(math.nan)  # an old number would look like a new one; not known is not known
    async with resources.database.unit_of_work(read_only=True) as work:
        [found] = await work.raw.fetch(MEASURE, resources.settings.stripe_livemode)
    for name, gauge in GAUGES.items():
        gauge.set(found[name])
    drift: Counter[str] = Counter()
    for one in (found["drift"] or {}).values():
        drift |= Counter(one)
    for kind in KINDS:
        metrics.drift.labels(kind).set(drift[kind])
    if resources.maintenance is not None:
        async with resources.maintenance.connection() as connection:
            metrics.unknown_oldest.set(await UnitOfWork(connection).raw.fetchval(UNKNOWN) or 0)
