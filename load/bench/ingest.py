"""Readings a second through the API in batches of 1,000, beside a bare COPY into a table of the same shape."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import count
from statistics import median
from typing import Any
from uuid import UUID

import asyncpg

from load.bench.acknowledge import Runs
from load.bench.generator import Call, Measured, WrongAnswer, drive
from load.bench.plant import Planted, plant
from load.bench.report import ratio
from load.bench.servers import SERVICE, Server, started
from load.bench.world import World

BATCH = 1_000
SENDERS = 4
"""As many as write at once; each to an indicator of its own, because batches for one wait for each other."""
CASE, TARGET = "readings in batches of 1,000", 0.25
FIRST = date(2001, 1, 1)
SPREAD = [timedelta(seconds=86 * place) for place in range(BATCH)]
"""A batch is a day: a moment every 86 seconds, so that 24 hours are summarised."""
FLOOR = """
    CREATE TABLE IF NOT EXISTS bare_readings (LIKE readings INCLUDING ALL,
        FOREIGN KEY (organization_id, indicator_id) REFERENCES indicators (organization_id, id))
"""
COLUMNS = ("organization_id", "indicator_id", "at", "value")


async def ingest(stage: World, seconds: float, rounds: int) -> Runs:
    """Both in turn, several rounds. Raises WrongAnswer where a reading is missing."""
    planted, runs = await plant(stage), Runs()
    superuser = await asyncpg.connect(stage.superuser_url)
    await superuser.execute(FLOOR)
    indicators = [
        row["id"] for row in await superuser.fetch("SELECT id FROM indicators ORDER BY id DESC LIMIT $1", SENDERS)
    ]
    pool = await asyncpg.create_pool(stage.superuser_url, min_size=SENDERS, max_size=SENDERS)
    days = count()
    async with started(stage, {"service": SERVICE}) as [service]:
        wires = requests(planted, indicators, service, days)
        await drive(service.host, service.port, wires, connections=SENDERS, seconds=min(1.0, seconds), expect=201)
        for _ in range(rounds):
            print(f"{CASE} ...", flush=True)
            runs.of(CASE, "floor").append(await copy(pool, planted.organization, indicators, days, seconds))
            before, cpu = await _stored(superuser), service.cpu_seconds()
            found = await drive(service.host, service.port, wires, connections=SENDERS, seconds=seconds, expect=201)
            found.cpu_seconds = service.cpu_seconds() - cpu
            if (added := await _stored(superuser) - before) != found.requests * BATCH:
                raise WrongAnswer(f"{found.requests} batches were taken and {added} readings stored")
            runs.of(CASE, "service").append(found)
    await pool.close()
    await superuser.close()
    return runs


def requests(planted: Planted, indicators: list[UUID], service: Server, days: Iterator[int]) -> Iterator[bytes]:
    """Batches ready to send, no two alike; only the day and the key change, or the sender would be the limit."""
    start = datetime(2001, 1, 1, tzinfo=UTC)
    rows = ",".join(
        f'{{"at":"DAY-DAY-DAY{(start + after):T%H:%M:%S}Z","value":{n / 7}}}' for n, after in enumerate(SPREAD)
    )
    headers = {
        "content-type": "application/json",
        "authorization": f"Bearer {planted.key}",
        "idempotency-key": "DAY-DAY-DAY",
    }
    body = f'{{"readings":[{rows}]}}'.encode()
    place = f"{service.host}:{service.port}"
    templates = [
        Call("POST", f"/api/v1/indicators/{each}/readings/batch", headers, body.replace(b"DAY-DAY-DAY", b"0000-00-00"))
        .encode(place)
        .replace(b"idempotency-key: DAY-DAY-DAY", b"idempotency-key: 0000-00-00")
        for each in indicators
    ]
    for day in days:
        today = (FIRST + timedelta(days=day)).isoformat().encode()
        yield templates[day % SENDERS].replace(b"0000-00-00", today)


async def copy(
    pool: asyncpg.Pool[Any], organization: UUID, indicators: list[UUID], days: Iterator[int], seconds: float
) -> Measured:
    """The floor: nothing between the rows and PostgreSQL, each batch committed as the service commits its own."""
    latencies: list[float] = []
    began = time.perf_counter()

    async def sender(indicator: UUID) -> None:
        async with pool.acquire() as connection:
            while True:
                start = datetime.combine(FIRST + timedelta(days=next(days)), datetime.min.time(), UTC)
                records = [(organization, indicator, start + after, n / 7) for n, after in enumerate(SPREAD)]
                sent = time.perf_counter()
                await connection.copy_records_to_table("bare_readings", records=records, columns=COLUMNS)
                latencies.append(time.perf_counter() - sent)
                if time.perf_counter() - began >= seconds:
                    return

    await asyncio.gather(*map(sender, indicators))
    return Measured(len(latencies), time.perf_counter() - began, latencies)


async def _stored(superuser: asyncpg.Connection[Any]) -> int:
    return int(await superuser.fetchval("SELECT count(*) FROM readings"))


def render(runs: Runs, machine: str) -> str:
    floor, ours = runs.of(CASE, "floor"), runs.of(CASE, "service")
    share = ratio(ours, floor)
    rates = [f"{median(each.rate for each in one) * BATCH:,.0f}" for one in (floor, ours)]
    times = [
        " / ".join(f"{median(each.percentile(at) for each in one):.0f}" for at in (0.5, 0.99)) for one in (floor, ours)
    ]
    lines = [
        f"{machine}. Medians over {len(ours)} rounds; ratios pair by pair. {SENDERS} senders.",
        "",
        "| case | floor readings/s | service readings/s | floor p50 / p99 ms a batch | p50 / p99 ms a batch |"
        " server CPU us/reading | of the floor |",
        "|---|--:|--:|--:|--:|--:|--:|",
        f"| {CASE} | {rates[0]} | {rates[1]} | {times[0]} | {times[1]} "
        f"| {median(each.cpu_us for each in ours) / BATCH:.1f} | {share:.2f} |",
    ]
    if share < TARGET:
        lines += ["", f"**Missed in this run: {TARGET} of the floor.**"]
    return "\n".join(lines)
