"""The commands as operators start them: processes of their own, told to stop by a signal."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from typing import Any

import asyncpg
import httpx
import pytest

from infra.sandbox.collector import Collector
from infra.sandbox.ports import listen
from service.core.settings import Settings
from service.guardrails.invariants import INVARIANTS
from tests.features.accounts.test_sign_up import new_address, sign_up
from tests.support.client import Client
from tests.support.processes import command, started

pytest_plugins = "tests.guardrails.durability"


# uvicorn shuts down gracefully and then lets the signal end it, so that a shell or Docker sees what happened.
@pytest.mark.parametrize(("name", "code"), [("serve", -signal.SIGTERM), ("worker", 0)])
async def test_a_process_answers_probes_and_ends_when_told(settings: Settings, name: str, code: int) -> None:
    async with started(name) as (process, http):
        async with asyncio.timeout(60):  # alive before it has its first connection
            while (await http.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.05)
        assert (await http.get("/metrics")).status_code == 401, "outsiders read no metrics"
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == code


def addresses(own_settings: Settings) -> dict[str, str]:
    """Of a database of this file's own: no other worker picks the jobs, no other test breaks an invariant."""
    return {
        "DATABASE_URL": own_settings.database_url.get_secret_value(),
        "DATABASE_MAINTENANCE_URL": own_settings.database_maintenance_url.get_secret_value(),
    }


async def test_the_worker_tells_how_its_jobs_went(
    own_settings: Settings, own_superuser: asyncpg.Connection[Any]
) -> None:
    await own_superuser.execute(
        "INSERT INTO pgqueuer (priority, entrypoint, status, execute_after, payload, headers)"
        " VALUES (0, 'invariants.check_invariants', 'queued', now(), '{}', '{}')"
    )
    token = {"Authorization": f"Bearer {own_settings.metrics_token.get_secret_value()}"}
    async with started("worker", **addresses(own_settings)) as (_, http), asyncio.timeout(60):
        while True:
            text = (await http.get("/metrics", headers=token)).text
            if re.search(r"^job_duration_seconds_count\{.*check_invariants.*\} [1-9]", text, re.MULTILINE):
                return
            await asyncio.sleep(0.05)


async def test_a_blocked_event_loop_is_seen(settings: Settings) -> None:
    """To the loop, a process that the system stops is like a call that blocks: nothing runs, the clock goes on."""
    token = {"Authorization": f"Bearer {settings.metrics_token.get_secret_value()}"}

    async def worst(http: httpx.AsyncClient) -> float:
        text = (await http.get("/metrics", headers=token)).text
        [value] = re.findall(r"^event_loop_lag_worst_seconds (\S+)$", text, re.MULTILINE)
        return float(value)

    async with started("serve") as (process, http):
        assert await worst(http) < 1
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(1.6)  # at most half a second of it is the watcher's own pause
        process.send_signal(signal.SIGCONT)
        async with asyncio.timeout(60):
            while await worst(http) < 1:
                await asyncio.sleep(0.05)


async def test_invariants_are_checked_on_demand(own_settings: Settings, own_superuser: asyncpg.Connection[Any]) -> None:
    there = addresses(own_settings)
    code, said = await command("invariants", **there)
    assert code == 0, said
    assert said.count("ok  ") == len(said.splitlines()) >= 4
    stuck = await own_superuser.fetchval(
        "INSERT INTO pgqueuer (priority, entrypoint, status, execute_after)"
        " VALUES (0, 'nobody.runs_it', 'queued', now() - interval '2 days') RETURNING id"
    )
    code, said = await command("invariants", **there)
    assert code == 1
    assert f"FAIL {INVARIANTS['jobs_move'].sentence}\n     {stuck}\n" in said
    assert await own_superuser.fetchval("SELECT violations FROM invariant_results WHERE name = 'jobs_move'") == 1


async def test_one_trace_leads_from_the_request_into_the_job_it_enqueued(own_settings: Settings) -> None:
    """Over the wire to a collector, sent before the process ends, and without a word of what was typed."""
    email = new_address()
    with Collector() as collector:
        tracing = {"OTLP_ENDPOINT": collector.address, "TRACE_SAMPLE_RATIO": "1", **addresses(own_settings)}
        async with started("serve", **tracing) as (web, http), started("worker", **tracing) as (worker, _):
            async with Client(str(http.base_url)) as visitor:
                assert (await sign_up(visitor, email)).status_code == 303
            web.send_signal(signal.SIGTERM)
            await web.wait()
            async with asyncio.timeout(60):
                while not any(span.name == "job accounts.answer_sign_up" for span in collector.spans()):
                    await asyncio.sleep(0.1)
            worker.send_signal(signal.SIGTERM)
            await worker.wait()
    spans = collector.spans()
    request = next(span for span in spans if span.name == "POST /sign-up")
    assert request.attributes["http.response.status_code"] == "303"
    names = {span.name for span in spans if span.trace == request.trace}
    assert names >= {
        "POST /sign-up",
        "action accounts.sign_up",
        "INSERT",
        "redis gate.enter",
        "job accounts.answer_sign_up",
    }
    known = {span.id for span in spans}
    assert [span.name for span in spans if span.parent and span.parent not in known] == []
    assert email not in str(spans)


async def test_a_collector_that_never_answers_does_not_hold_up_the_end(settings: Settings) -> None:
    with listen(0, "127.0.0.1") as silent:
        silent.listen(50)
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with started("serve", OTLP_ENDPOINT=address, TRACE_SAMPLE_RATIO="1") as (web, http):
            await http.get("/login")
            began = time.monotonic()
            web.send_signal(signal.SIGTERM)
            await web.wait()
            assert time.monotonic() - began < 10, "the supervisor would kill it in the middle of a request"
