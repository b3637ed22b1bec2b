"""CSV import: rows a second beside a bare COPY in the same run, and what a long file costs the worker in memory.

The worker is a process of its own; its peak is the kernel's (VmHWM), begun anew before each file.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

import asyncpg

from load.bench.servers import Server, started
from load.bench.world import World
from service.app import close_resources, create_resources
from service.core.context import Resources
from service.core.ids import new_id
from service.core.settings import get_settings
from service.integrations.storage import Storage

WORKER = {"worker": ["-m", "service", "worker"]}
WARM_UP = 2_000
START = datetime(2020, 1, 1, tzinfo=UTC)
COLUMNS = ("organization_id", "indicator_id", "at", "value")


class WrongCount(Exception):
    """The import did not store what it was given."""


@dataclass(frozen=True)
class Run:
    rows: int
    copied: float
    imported: float
    grown_mb: float

    @property
    def ratio(self) -> float:
        return self.copied / self.imported


async def measure(stage: World, sizes: list[int], rounds: int) -> list[Run]:
    """Each size several times, COPY and import in turn, each into an indicator of its own."""
    superuser = await asyncpg.connect(stage.superuser_url)
    resources = create_resources(get_settings())
    organization = new_id()
    await superuser.execute("INSERT INTO organizations (id, name, created_at) VALUES ($1, 'B', now())", organization)
    runs = []
    try:
        async with started(stage, WORKER) as [worker]:
            await _import(superuser, resources, worker, organization, WARM_UP)
            for size in (size for size in sizes for _ in range(rounds)):
                print(f"{size:,} rows ...", flush=True)
                copied = await _copy(superuser, organization, size)
                imported, grown = await _import(superuser, resources, worker, organization, size)
                runs.append(Run(size, copied, imported, grown))
    finally:
        await close_resources(resources)
        await superuser.close()
    return runs


def readings(count: int) -> Iterator[tuple[str, str]]:
    for n in range(count):
        yield (START + timedelta(seconds=30 * n)).isoformat(), str(100 + n % 997 / 10)


async def _copy(db: asyncpg.Connection[Any], organization: UUID, count: int) -> float:
    """Seconds for a bare COPY of the same rows into the same table, from memory."""
    indicator = await _indicator(db, organization)
    text = "".join(f"{organization},{indicator},{at},{value}\n" for at, value in readings(count)).encode()
    began = time.perf_counter()
    await db.copy_to_table("readings", source=io.BytesIO(text), columns=COLUMNS, format="csv")
    return time.perf_counter() - began


async def _import(
    db: asyncpg.Connection[Any],
    resources: Resources,
    worker: Server,
    organization: UUID,
    count: int,
) -> tuple[float, float]:
    """(seconds from the stored file to its end, megabytes by which the worker's peak exceeds what it had before)."""
    indicator, identifier = await _indicator(db, organization), new_id()
    key = f"eu:imports/{organization}/{identifier}"

    async def parts() -> AsyncIterator[bytes]:
        yield b"time,value\n"
        rest = readings(count)
        while some := "".join(f"{at},{value}\n" for at, value in islice(rest, 10_000)):
            yield some.encode()

    size = await resources.get(Storage).put(key, parts())
    process = Path(f"/proc/{worker.process.pid}")
    (process / "clear_refs").write_text("5")
    before = worker.resident_mb()
    began = time.perf_counter()
    await db.execute(
        "INSERT INTO imports (id, organization_id, created_at, name, size, object_key, indicator_id, mode, zone,"
        " decimal, state) VALUES ($1, $2, now(), 'bench.csv', $3, $4, $5, 'good', 'UTC', 'point', 'waiting')",
        identifier, organization, size, key, indicator,
    )  # fmt: skip
    while (row := await db.fetchrow("SELECT * FROM imports WHERE id = $1", identifier))["object_key"] is not None:
        await asyncio.sleep(0.05)
    seconds = time.perf_counter() - began
    if (row["state"], row["added"]) != ("done", count):
        raise WrongCount(f"{row['state']}: {row['added']} of {count} rows; {row['remark']}")
    peak = next(line for line in (process / "status").read_text().splitlines() if line.startswith("VmHWM"))
    return seconds, int(peak.split()[1]) * 1024 / 1e6 - before


async def _indicator(db: asyncpg.Connection[Any], organization: UUID) -> UUID:
    identifier = new_id()
    await db.execute(
        "INSERT INTO indicators (id, organization_id, name, created_at, changed_at) VALUES ($1, $2, $3, now(), now())",
        identifier, organization, identifier.hex,
    )  # fmt: skip
    return identifier


def render(runs: list[Run], machine: str) -> str:
    sizes = sorted({run.rows for run in runs})
    by_size = [[run for run in runs if run.rows == size] for size in sizes]
    return "\n".join([
        f"{machine}. Medians over {len(by_size[0])} rounds; ratios pair by pair.",
        "",
        "| rows | bare COPY rows/s | import rows/s | of COPY | worker's peak grows by |",
        "|--:|--:|--:|--:|--:|",
        *(
            f"| {some[0].rows:,} | {some[0].rows / median(run.copied for run in some):,.0f}"
            f" | {some[0].rows / median(run.imported for run in some):,.0f}"
            f" | {median(run.ratio for run in some):.2f} | {max(run.grown_mb for run in some):.1f} MB |"
            for some in by_size
        ),
    ])  # fmt: skip
