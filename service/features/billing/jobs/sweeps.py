"""What compares us with Stripe, and what looks again when time alone has changed something."""

from __future__ import annotations

import asyncio
from functools import partial

from service.core import telemetry
from service.core.context import Context, Resources
from service.core.database import Database
from service.features.billing.flows import catalogue, upkeep
from service.features.billing.flows.measures import measure
from service.features.billing.flows.sweeps import SWEEPS, sweep_when_due
from service.guardrails import jobs
from service.guardrails.jobs import job, pause, periodic, standing

PAUSE_SECONDS = 5.0


async def _sweep(stream: str, resources: Resources, maintenance: Database, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await sweep_when_due(resources, maintenance, stream)
        await pause(stop, PAUSE_SECONDS)


telemetry.measures.append(measure)
for stream in SWEEPS:
    standing(f"billing-{stream}", give_up=True)(partial(_sweep, stream))


@standing("billing-catalogue")
async def compare_prices(resources: Resources, maintenance: Database, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await pause(stop, await catalogue.watch(resources))


@periodic("*/5 * * * *")
async def find_what_ran_out(ctx: Context) -> None:
    for organization_id in await upkeep.ran_out(ctx.work):
        await ctx.work.act_for(tenant=organization_id, user=None)
        await jobs.enqueue(ctx, derive_again)


@job()
async def derive_again(ctx: Context) -> None:
    """A renewal that nobody told us of, or a gift that ended: read again, and derive what holds without waiting."""
    await upkeep.derive_again(ctx)
