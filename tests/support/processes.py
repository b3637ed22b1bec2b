"""The two long-running commands as processes of their own, as operators start them."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import IO

import httpx

from infra.sandbox.ports import free_port

START_SECONDS = 120


async def command(*words: str, **variables: str) -> tuple[int | None, str]:
    """Exit code and everything it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service", *words, stdout=PIPE, stderr=PIPE, env={**os.environ, **variables}
    )
    out, error = await process.communicate()
    return process.returncode, (out + error).decode()


@asynccontextmanager
async def started(
    name: str, stdout: IO[bytes] | None = None, /, **variables: str
) -> AsyncIterator[tuple[Process, httpx.AsyncClient]]:
    """`serve` or `worker`, alive, printing to `stdout` where one is given; killed when the test left it running."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "service",
        name,
        "--port",
        str(port),
        stdout=stdout,
        env={**os.environ, "BASE_URL": address, **variables},
    )
    try:
        async with httpx.AsyncClient(base_url=address) as http:
            async with asyncio.timeout(START_SECONDS):
                while True:
                    try:
                        assert (await http.get("/livez")).status_code == 200
                        break
                    except httpx.TransportError:
                        assert process.returncode is None, "it ended at once"
                        await asyncio.sleep(0.05)
            yield process, http
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
