"""Health check of the worker's container: exit 0 while a worker has reported within a minute.

A worker has no port to ask. It reports to the database every five seconds, so one that hangs, or cannot reach the
database, is silent, which a look at its process would not show. With several workers this says that one of them lives.
"""

import asyncio
import os

import asyncpg

AGE = "SELECT extract(epoch FROM now() - max(beat_at))::float8 FROM worker_heartbeats"
SILENT_SECONDS = 60


async def silence() -> float:
    """Seconds since the newest report."""
    connection = await asyncpg.connect(os.environ["DATABASE_MAINTENANCE_URL"], timeout=5)
    try:
        age = await connection.fetchval(AGE)
    finally:
        await connection.close()
    return float("inf") if age is None else float(age)


if __name__ == "__main__":
    seconds = asyncio.run(silence())
    print(f"last report {seconds:.0f} s ago")
    raise SystemExit(seconds > SILENT_SECONDS)
