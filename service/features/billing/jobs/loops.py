"""What runs in the worker: the synchronizer and its helpers, for as long as the worker lives."""

from __future__ import annotations

import asyncio

from service.core.context import Resources
from service.core.database import Database
from service.features.billing.flows.operations import perform_due
from service.features.billing.flows.resolve import resolve_messages
from service.features.billing.flows.synchronize import run
from service.guardrails.jobs import pause, standing

PAUSE_SECONDS = 1.0


@standing("billing-synchronizer")
async def synchronize_customers(resources: Resources, maintenance: Database, stop: asyncio.Event) -> None:
    await run(resources, stop)


@standing("billing-resolver")
async def find_owners(resources: Resources, maintenance: Database, stop: asyncio.Event) -> None:
    while not stop.is_set():
        if not await resolve_messages(resources, maintenance):
            await pause(stop, PAUSE_SECONDS)


@standing("billing-operations")
async def perform_operations(resources: Resources, maintenance: Database, stop: asyncio.Event) -> None:
    while not stop.is_set():
        if not await perform_due(resources, maintenance):
            await pause(stop, PAUSE_SECONDS)
