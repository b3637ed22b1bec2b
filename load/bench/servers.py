"""The three servers, each a process of its own on the same core, and what they cost."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from infra.sandbox.ports import free_port
from load.bench.world import World
from service.core.settings import get_settings

TICK = os.sysconf("SC_CLK_TCK")
START_SECONDS = 30


@dataclass
class Server:
    """A running server; `name` is floor, unprotected or service."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def cpu_seconds(self) -> float:
        """User and system time of the process so far, all threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def resident_mb(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    async def statements(self) -> float:
        """Statements sent so far, where the server counts them."""
        if self.name != "service":
            return 0.0
        token = get_settings().metrics_token.get_secret_value()
        async with httpx.AsyncClient() as http:
            text = (await http.get(f"{self.url}/metrics", headers={"authorization": f"Bearer {token}"})).text
        return next(float(line.split()[1]) for line in text.splitlines() if line.startswith("db_statements_total "))


SERVICE = ["-m", "service", "serve"]


def bare(app: str) -> list[str]:
    """How a server is started that has none of the service's layers."""
    return ["-m", "uvicorn", app, "--no-access-log", "--log-level", "warning"]


@asynccontextmanager
async def started(stage: World, commands: dict[str, list[str]], **more: str) -> AsyncIterator[list[Server]]:
    """Each command as a server by its name, warmed up by nothing yet; `more` is environment."""
    environment = {
        **os.environ,
        **stage.environment,
        "BENCH_FLOOR_URL": stage.superuser_url,
        "LOG_LEVEL": "INFO",
        "RATE_LIMIT_SCALE": "1000000",  # every limit is counted, none is reached
        **more,
    }
    core = min(os.sched_getaffinity(0) | {0})
    async with AsyncExitStack() as stack:
        servers = []
        for name, words in commands.items():
            port = free_port()
            process = subprocess.Popen(
                [sys.executable, *words, "--port", str(port)],
                env={**environment, "BASE_URL": f"http://127.0.0.1:{port}"},
                stdout=subprocess.DEVNULL,
                preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            )
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
            servers.append(Server(name, process, port))
        for server in servers:
            await _answering(server)
        yield servers


async def _answering(server: Server) -> None:
    for _ in range(START_SECONDS * 10):
        try:
            _, writer = await asyncio.open_connection(server.host, server.port)
        except OSError:
            if server.process.poll() is not None:
                raise RuntimeError(f"{server.name} ended with {server.process.returncode}") from None
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    raise RuntimeError(f"{server.name} did not start within {START_SECONDS} s")
