"""Somebody who looks at the files that the examples send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.core.context import Resources
from service.core.database import Database
from service.features.files.flows.look import judge_due


@pytest.fixture
async def worker(resources: Resources, maintenance: Database) -> AsyncIterator[None]:
    ended = asyncio.Event()

    async def look() -> None:
        while not ended.is_set():
            await judge_due(resources, maintenance)
            await asyncio.sleep(0.05)

    task = asyncio.create_task(look())
    yield
    ended.set()
    await task
