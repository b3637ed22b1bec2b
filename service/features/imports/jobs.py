"""Runs the imports: in every worker one at a time, beside the queue and never in it, so that none makes a job wait."""

from __future__ import annotations

import asyncio

from sqlalchemy import select

from service.core import telemetry
from service.core.context import Context, Resources
from service.core.database import Database
from service.features.imports.actions import finish_import
from service.features.imports.flows.metrics import measure
from service.features.imports.flows.run import take_turn
from service.features.imports.models import FINISHED, Import, State
from service.features.notifications.flows import notify
from service.guardrails.jobs import Event, on, pause, standing

PAUSE_SECONDS = 1.0

telemetry.measures.append(measure)


@standing("imports")
async def run_imports(resources: Resources, maintenance: Database, stop: asyncio.Event) -> None:
    while not stop.is_set():
        if not await take_turn(resources, maintenance):
            await pause(stop, PAUSE_SECONDS)


@on(finish_import)
async def tell_who_began(ctx: Context, event: Event) -> None:
    """Once per import, to whoever uploaded it; not about what they cancelled themselves."""
    found = (await ctx.db.execute(select(Import).where(Import.id == event.object_id))).scalar_one_or_none()
    if found is not None and found.created_by is not None and found.state is not State.CANCELLED:
        text = f"{found.name}: {found.added} readings added, {found.unchanged} unchanged, {found.refused} rows refused."
        href = f"/imports/{found.id}"
        await notify(ctx, FINISHED, text, href=href, user_ids=[found.created_by], key=str(found.id))
