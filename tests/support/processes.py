"""The commands as operators run them: processes of their own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from infra.sandbox.ports import free_port
from tests.support.forked import Forked

START_SECONDS = 120


async def command(*words: str, **variables: str) -> tuple[int | None, str]:
    """Exit code and everything it printed."""
    process = Forked(*words, environment={**os.environ, **variables})
    out, error = await process.communicate()
    return process.returncode, out + error


@asynccontextmanager
async def started(
    name: str, stdout: Path | None = None, /, **variables: str
) -> AsyncIterator[tuple[Forked, httpx.AsyncClient]]:
    """`serve` or `worker`, alive, printing into `stdout` where one is given; killed when the test left it running."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "BASE_URL": address, **variables}
    process = Forked(name, "--port", str(port), environment=environment, stdout=stdout)
    try:
        async with httpx.AsyncClient(base_url=address) as http:
            async with asyncio.timeout(START_SECONDS):
                while True:
                    try:
                        assert (await http.get("/livez")).status_code == 200
                        break
                    except httpx.TransportError:
                        assert process.returncode is None, await process.communicate()
                        await asyncio.sleep(0.05)
            yield process, http
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
