"""Workers in this process, and what their jobs left behind: for the tests of the jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg

from service.core.context import Actor, ActorKind, Context, Resources
from service.core.ids import new_id
from service.guardrails.jobs import Retry
from service.guardrails.jobs.consumer import consume

ADA = Actor(ActorKind.USER, new_id())
SOON = Retry(attempts=3, first=timedelta(milliseconds=20))


async def effect(ctx: Context, what: object) -> None:
    await ctx.work.raw.execute("INSERT INTO effects (what) VALUES ($1)", str(what))


async def effects(superuser: asyncpg.Connection[Any]) -> list[str]:
    return [row["what"] for row in await superuser.fetch("SELECT what FROM effects ORDER BY id")]


async def states(superuser: asyncpg.Connection[Any]) -> dict[str, int]:
    rows = await superuser.fetch("SELECT status::text, count(*) AS jobs FROM pgqueuer GROUP BY status")
    return {row["status"]: row["jobs"] for row in rows}


@asynccontextmanager
async def working(resources: Resources, workers: int = 1, **options: Any) -> AsyncIterator[asyncio.Event]:
    """Workers in this process, until the block ends."""
    stop = asyncio.Event()
    assert resources.maintenance is not None
    tasks = [asyncio.create_task(consume(resources, resources.maintenance, stop, **options)) for _ in range(workers)]
    try:
        yield stop
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def drain(resources: Resources, **options: Any) -> None:
    assert resources.maintenance is not None
    await asyncio.wait_for(consume(resources, resources.maintenance, asyncio.Event(), until_empty=True, **options), 60)


async def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    """Wait for a condition that is looked up in the database."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not await condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not come true; the log above says what happened"
        await asyncio.sleep(0.02)


async def equals(found: Any, wanted: Any) -> bool:
    return bool(await found == wanted)
