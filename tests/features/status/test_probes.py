"""Probes and metrics over real HTTP, also while PostgreSQL or Redis are away, hang, or are older than the code."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
import httpx
import pytest
from pydantic import SecretStr

from infra.sandbox.ports import free_port, listen
from service.core import telemetry
from service.core.context import Resources
from service.core.migrate import head
from service.core.settings import Settings
from service.features.status import pages
from tests.conftest import TEMPLATE, TestServers
from tests.support.servers import RunningServer

TOKEN = "a-token-that-only-this-test-knows-0123456789"


@contextmanager
def another(settings: Settings, **changes: Any) -> Iterator[RunningServer]:
    """A web process of its own, with other settings."""
    changes = {"base_url": f"http://127.0.0.1:{free_port()}", "metrics_token": SecretStr(TOKEN), **changes}
    with RunningServer(settings.model_copy(update=changes)) as running:
        yield running


async def ask(server: RunningServer, path: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=server.url, timeout=10) as http:
        return await http.get(path, headers=headers)


async def scrape(server: RunningServer) -> dict[str, str]:
    answer = await ask(server, "/metrics", authorization=f"Bearer {TOKEN}")
    assert answer.status_code == 200
    return dict(re.findall(r"^([a-z_]+(?:\{[^}]*\})?) (\S+)$", answer.text, re.MULTILINE))


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and never says a word: what a hung server looks like."""
    with listen(0, "127.0.0.1") as waiting:
        waiting.listen(50)
        yield waiting.getsockname()[1]


def nobody() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_all_is_well(server: RunningServer) -> None:
    assert (await ask(server, "/livez")).json() == {"status": "alive"}
    ready = await ask(server, "/readyz")
    assert ready.status_code == 200
    fine = dict.fromkeys(("database", "schema", "redis", "erasures"), "ok")
    assert ready.json() == {"status": "ready", "checks": fine}
    version = (await ask(server, "/version")).json()
    assert version == {"revision": "unknown", "schema_version": head()}


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/version", "/metrics"])
async def test_probes_carry_the_headers_and_are_never_cached(server: RunningServer, path: str) -> None:
    answer = await ask(server, path)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"]


async def test_a_lost_redis_makes_it_unready_and_kills_nobody(settings: Settings) -> None:
    lost = SecretStr(f"redis://127.0.0.1:{nobody()}/0")
    with another(settings, redis_url=lost) as server:
        ready = await ask(server, "/readyz")
        assert ready.status_code == 503
        fine = dict.fromkeys(("database", "schema", "erasures"), "ok")
        assert ready.json()["checks"] == {**fine, "redis": "Not reachable."}
        assert (await ask(server, "/livez")).status_code == 200
        assert (await scrape(server))["redis_up"] == "0.0"


async def test_a_lost_database_makes_it_unready_and_kills_nobody(settings: Settings) -> None:
    lost = SecretStr(f"postgresql://ballast_app:x@127.0.0.1:{nobody()}/gone")
    with another(settings, database_url=lost) as server:
        ready = await ask(server, "/readyz")
        assert ready.status_code == 503
        assert ready.json()["checks"]["redis"] == "ok"
        assert ready.json()["checks"]["database"] == "Not reachable."
        assert (await ask(server, "/livez")).status_code == 200
        metrics = await scrape(server)
        assert (metrics["database_up"], metrics["jobs_ready"]) == ("0.0", "NaN"), "yesterday's number is no number"


async def test_what_hangs_costs_a_second_and_not_a_probe(settings: Settings, silent: int) -> None:
    hung = {
        "redis_url": SecretStr(f"redis://127.0.0.1:{silent}/0"),
        "database_url": SecretStr(f"postgresql://ballast_app:x@127.0.0.1:{silent}/gone"),
    }
    with another(settings, **hung) as server:
        began = time.perf_counter()
        ready, metrics, alive = await asyncio.gather(ask(server, "/readyz"), scrape(server), ask(server, "/livez"))
        assert time.perf_counter() - began < 8, "it waited for a connection as others do: ten seconds"
        assert ready.status_code == 503
        assert ready.json()["checks"]["database"] == "No answer within 1 s."
        assert "http_requests_total" in " ".join(metrics)
        assert alive.status_code == 200


async def test_a_measure_that_hangs_makes_no_other_unknown(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = list[str]()

    async def hanging(_: Resources) -> None:
        await asyncio.Event().wait()

    async def prompt(_: Resources) -> None:
        done.append("prompt")

    monkeypatch.setattr(telemetry, "measures", [hanging, prompt])
    await pages._measure_database(resources)
    assert done == ["prompt"]
    assert pages.database_up._value.get() == 1
    assert telemetry.jobs_ready._value.get() >= 0


async def test_a_schema_behind_the_code_is_not_ready_and_one_ahead_is(settings: Settings, servers: TestServers) -> None:
    """Migrations run before a release: the old code must keep its traffic while the schema is already newer."""
    name = f"status_{free_port()}"
    servers.postgres.create_database(name, template=TEMPLATE)
    superuser = await asyncpg.connect(servers.postgres.url("postgres", name))
    try:
        with another(settings, database_url=SecretStr(servers.postgres.url("ballast_app", name))) as server:
            await superuser.execute("UPDATE alembic_version SET version_num = 'a_later_one'")
            assert (await ask(server, "/readyz")).status_code == 200
            await superuser.execute("DELETE FROM alembic_version")
            behind = await ask(server, "/readyz")
            assert behind.status_code == 503
            assert "Run the migrate command" in behind.json()["checks"]["schema"]
    finally:
        await superuser.close()
        servers.postgres.drop_database(name)


@pytest.mark.parametrize("sent", [None, "", "Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"])
async def test_outsiders_cannot_read_metrics(settings: Settings, sent: str | None) -> None:
    with another(settings) as server:
        answer = await ask(server, "/metrics", **({"authorization": sent} if sent is not None else {}))
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "http_requests" not in answer.text


async def test_metrics_tell_what_the_alerts_ask_for(settings: Settings) -> None:
    asked = 'http_request_duration_seconds_{}{{method="GET",route="/login"}}'
    with another(settings) as server:
        await ask(server, "/readyz")
        before = await scrape(server)
        await asyncio.gather(*(ask(server, "/login") for _ in range(3)))
        metrics = await scrape(server)
    assert float(metrics[asked.format("count")]) >= float(before.get(asked.format("count"), 0)) + 3
    assert float(metrics[asked.format("sum")]) > float(before.get(asked.format("sum"), 0))
    waited = 'db_pool_wait_seconds_count{pool="app"}'
    assert float(metrics[waited]) >= float(before[waited]) + 3
    assert {'db_pool_in_use{pool="app"}', 'db_pool_waiting{pool="app"}', "event_loop_lag_seconds"} <= set(metrics)
    assert metrics["redis_up"] == "1.0"
    assert metrics["database_up"] == "1.0"
    for name in ("jobs_ready", "jobs_oldest_age_seconds", "jobs_failed", "sessions_active"):
        assert float(metrics[name]) >= 0, name
    assert metrics['db_pool_size{pool="app"}'] == f"{settings.database_pool_size}.0"
    assert any(name.startswith("http_requests_total") and float(value) >= 1 for name, value in metrics.items())
