"""The commands as operators start them: processes of their own, told to stop by a signal."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest

from infra.sandbox.ports import free_port
from service.core.settings import Settings
from service.guardrails.invariants import INVARIANTS

START_SECONDS = 30


async def command(*words: str) -> tuple[int | None, str]:
    """Exit code and everything it printed."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "service", *words, stdout=PIPE, stderr=PIPE)
    out, error = await process.communicate()
    return process.returncode, (out + error).decode()


@asynccontextmanager
async def started(name: str) -> AsyncIterator[tuple[Process, httpx.AsyncClient]]:
    """One of the two long-running commands, alive; killed when the test left it running."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "service", name, "--port", str(port))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http, asyncio.timeout(START_SECONDS):
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


# uvicorn shuts down gracefully and then lets the signal end it, so that a shell or Docker sees what happened.
@pytest.mark.parametrize(("name", "code"), [("serve", -signal.SIGTERM), ("worker", 0)])
async def test_a_process_answers_probes_and_ends_when_told(settings: Settings, name: str, code: int) -> None:
    async with started(name) as (process, http):
        assert (await http.get("/readyz")).status_code == 200
        assert (await http.get("/metrics")).status_code == 401, "outsiders read no metrics"
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == code


async def test_the_worker_tells_how_its_jobs_went(settings: Settings, superuser: asyncpg.Connection[Any]) -> None:
    await superuser.execute(
        "INSERT INTO pgqueuer (priority, entrypoint, status, execute_after, payload, headers)"
        " VALUES (0, 'invariants.check_invariants', 'queued', now(), '{}', '{}')"
    )
    token = {"Authorization": f"Bearer {settings.metrics_token.get_secret_value()}"}
    async with started("worker") as (_, http):
        while True:
            text = (await http.get("/metrics", headers=token)).text
            if re.search(r"^job_duration_seconds_count\{.*check_invariants.*\} [1-9]", text, re.MULTILINE):
                return
            await asyncio.sleep(0.05)


async def test_invariants_are_checked_on_demand(settings: Settings, superuser: asyncpg.Connection[Any]) -> None:
    code, said = await command("invariants")
    assert code == 0, said
    assert said.count("ok  ") == len(said.splitlines()) >= 4
    stuck = await superuser.fetchval(
        "INSERT INTO pgqueuer (priority, entrypoint, status, execute_after)"
        " VALUES (0, 'nobody.runs_it', 'queued', now() - interval '2 days') RETURNING id"
    )
    try:
        code, said = await command("invariants")
        assert code == 1
        assert f"FAIL {INVARIANTS['jobs_move'].sentence}\n     {stuck}\n" in said
        assert await superuser.fetchval("SELECT violations FROM invariant_results WHERE name = 'jobs_move'") == 1
    finally:
        await superuser.execute("DELETE FROM pgqueuer WHERE id = $1", stuck)
        assert (await command("invariants"))[0] == 0
