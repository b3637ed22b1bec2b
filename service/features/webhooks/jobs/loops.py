"""The sender, for as long as the worker lives, and what it looks like from outside."""

from __future__ import annotations

import asyncio
import math
from itertools import chain

from service.core import clock, telemetry
from service.core.context import Context, Resources
from service.core.database import Database, UnitOfWork
from service.features.webhooks.flows import metrics
from service.features.webhooks.flows.claim import LINES
from service.features.webhooks.flows.deliver import run
from service.guardrails.jobs import periodic, standing

# Endpoints that are ill are left out: their messages are late through their own fault, and `failing` counts them.
MEASURE = f"""
    {LINES}
    SELECT count(*) AS waiting,
        coalesce(extract(epoch FROM $1 - min(first.next_attempt_at) FILTER (
            WHERE endpoint.state = 'active' AND failures = 0 AND NOT slow AND deleted_at IS NULL
            AND (SELECT deleted_at FROM organizations WHERE id = endpoint.organization_id) IS NULL
        ))::float8, 0) AS overdue
    FROM lines CROSS JOIN LATERAL (
        SELECT next_attempt_at FROM webhook_deliveries
        WHERE endpoint_id = lines.endpoint_id AND state = 'waiting' AND next_attempt_at <= $1
        ORDER BY next_attempt_at LIMIT 1
    ) AS first CROSS JOIN LATERAL (SELECT * FROM webhook_endpoints WHERE id = lines.endpoint_id LIMIT 1) AS endpoint
"""  # noqa: S608 - a constant
ENDPOINTS = """
    SELECT count(*) FILTER (WHERE state = 'active' AND failures > 0) AS failing,
        count(*) FILTER (WHERE state = 'disabled') AS disabled
    FROM webhook_endpoints WHERE deleted_at IS NULL
"""
# The day of overlap is over, so nothing signs with it; kept, it would need its encryption key for ever.
FORGET = "UPDATE webhook_endpoints SET old_secret = NULL WHERE old_secret IS NOT NULL AND old_secret_until <= $1"
GAUGES = (metrics.waiting, metrics.overdue, metrics.failing, metrics.disabled)


@standing("webhook-deliveries")
async def send_messages(resources: Resources, maintenance: Database, stop: asyncio.Event) -> None:
    await run(resources, maintenance, stop)


@periodic("35 * * * *")
async def forget_old_secrets(ctx: Context) -> None:
    await forget(ctx.resources.as_maintenance)


async def forget(maintenance: Database) -> None:
    async with maintenance.unit_of_work() as work:
        await work.raw.execute(FORGET, clock.now())


async def measure(resources: Resources) -> None:
    """Set the gauges; the worker alone may look at every organization, elsewhere they are not known."""
    for gauge in GAUGES:
        gauge.set(math.nan)
    if resources.maintenance is None:
        return
    async with resources.maintenance.connection() as connection:
        raw = UnitOfWork(connection).raw
        rows = [*await raw.fetch(MEASURE, clock.now()), *await raw.fetch(ENDPOINTS)]
    for gauge, value in zip(GAUGES, chain.from_iterable(rows), strict=True):
        gauge.set(max(0, value))


telemetry.measures.append(measure)
