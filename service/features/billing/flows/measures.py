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
        (SELECT extract(epoch FROM now() - min(received_at))::float8 FROM inbox
            WHERE source = 'stripe' AND state = 'pending') AS inbox_oldest,
        (SELECT count(*) FROM inbox WHERE source = 'stripe' AND state = 'unmatched') AS inbox_unmatched,
        (SELECT count(*) FROM billing_customers WHERE dirty_gen > synced_gen AND dead_at IS NULL) AS dirty,
        (SELECT extract(epoch FROM now() - min(dirty_since))::float8 FROM billing_customers
            WHERE dirty_gen > synced_gen AND dead_at IS NULL) AS dirty_oldest,
        (SELECT count(*) FROM billing_customers WHERE dirty_gen > synced_gen AND dead_at IS NOT NULL) AS dead,
        (SELECT extract(epoch FROM now() - received_at)::float8 / 86400 FROM inbox
            WHERE type = 'invoice.paid' ORDER BY id DESC LIMIT 1) AS silence,
        (SELECT jsonb_object_agg(stream, drift) FROM billing_sweeps) AS drift
"""
UNKNOWN = """
    SELECT extract(epoch FROM now() - min(first_sent_at))::float8 FROM billing_operations WHERE status = 'unknown'
"""
GAUGES = (
    metrics.inbox_oldest, metrics.inbox_unmatched, metrics.dirty, metrics.dirty_oldest, metrics.dead, metrics.silence,
)  # fmt: skip


async def measure(resources: Resources) -> None:
    """Set the gauges; what operations wait for is told by the worker alone, whose role sees every organization."""
    for gauge in (*GAUGES, metrics.unknown_oldest):
        gauge.set(math.nan)  # an old number would look like a new one; not known is not known
    async with resources.database.unit_of_work(read_only=True) as work:
        found = await work.raw.fetchrow(MEASURE)
    assert found is not None  # noqa: S101 - it has no FROM
    metrics.inbox_oldest.set(found["inbox_oldest"] or 0)
    metrics.inbox_unmatched.set(found["inbox_unmatched"])
    metrics.dirty.set(found["dirty"])
    metrics.dirty_oldest.set(found["dirty_oldest"] or 0)
    metrics.dead.set(found["dead"])
    if found["silence"] is not None:
        metrics.silence.set(found["silence"])
    drift: Counter[str] = Counter()
    for one in (found["drift"] or {}).values():
        drift |= Counter(one)
    for kind in KINDS:
        metrics.drift.labels(kind).set(drift[kind])
    if resources.maintenance is not None:
        async with resources.maintenance.connection() as connection:
            metrics.unknown_oldest.set(await UnitOfWork(connection).raw.fetchval(UNKNOWN) or 0)
