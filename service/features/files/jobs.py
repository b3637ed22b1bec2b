"""What runs in the worker for as long as it lives: looking at what came, removing what was given up, sweeping."""

from __future__ import annotations

import asyncio
import time
from random import uniform

from service.core.context import Resources
from service.core.database import Database
from service.core.logging import get_logger
from service.features.files.flows.look import judge_due
from service.features.files.flows.removal import remove_given_up, sweep
from service.guardrails.jobs import pause, standing
from service.guardrails.jobs.runner import where
from service.integrations.storage import StorageAway

log = get_logger()
PAUSE_SECONDS = 1.0
SWEEP_SECONDS = 6 * 3600.0


@standing("files-look")
async def look_at_files(resources: Resources, maintenance: Database, stop: asyncio.Event) -> None:
    while not stop.is_set():
        if not await judge_due(resources, maintenance):
            await pause(stop, PAUSE_SECONDS)


@standing("files-remove")
async def remove_objects(resources: Resources, maintenance: Database, stop: asyncio.Event) -> None:
    # At a time of its own in each worker: a sweep reads the whole store.
    next_sweep = time.monotonic() + uniform(0, SWEEP_SECONDS)  # noqa: S311 - spreading
    while not stop.is_set():
        if not await remove_given_up(resources, maintenance):
            await pause(stop, 5 * PAUSE_SECONDS)
        if time.monotonic() > next_sweep:
            next_sweep = time.monotonic() + SWEEP_SECONDS
            try:
                await sweep(resources, maintenance)
            except StorageAway as error:
                log.error("sweep stopped", error=type(error).__name__, where=where(error))
