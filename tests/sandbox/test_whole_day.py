"""`make run` from a half-finished start to the last Ctrl-C: what it prints is true, and what people made stays."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from infra.sandbox.ports import is_free
from infra.sandbox.processes import children_of, command_line
from service.core import clock
from service.features.accounts.models.totp import code_at
from tests.conftest import TestServers
from tests.sandbox.launching import Start, assert_nothing_runs, ending, processes_of, read_until
from tests.support.client import Client

READY = "Metrics: "
MADE = "Made before the lights went out"
IN_REVERSE = ["web", "worker", "Redis", "PostgreSQL", "stand-ins"]
Logins = list[dict[str, str]]


def stopped(output: str) -> list[str]:
    return [line.split(" s  ")[1] for line in output.splitlines() if line.startswith("  stopped")]


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_whole_day(start: Start, tmp_path: Path, ports: dict[str, int]) -> None:
    """A start that was cut off, a first one, a lost worker, Ctrl-C, and the end by whoever ends make."""
    half = start()
    read_until(half, "  Redis ")
    half.kill()

    first = start()
    output = read_until(first, READY)
    assert "The last run was cut off" in output
    app = f"http://127.0.0.1:{ports['app']}"
    await _assert_addresses(output, tmp_path)
    logins: Logins = json.loads((tmp_path / "logins.json").read_text())["logins"]
    assert [one["role"] for one in logins] == ["owner", "member", "viewer", "staff"]
    async with Client(app) as owner:
        await _assert_logins(output, logins, app)
        await _log_in(owner, logins[0])
        made = await owner.submit("/indicators/new", name=MADE, unit="lamps")
        assert made.status_code == 303, made.text
        await owner.page(made.headers["location"])  # takes the notice out of the cookie, or that would be what we find

        code, refused = ending(start())
        assert code == 1
        assert f"already runs in this clone (pid {first.pid}, {app})" in refused

        worker = next(pid for pid in children_of(first.pid) if "service worker" in command_line(pid))
        os.kill(worker, signal.SIGKILL)
        code, rest = ending(first)
        assert code == 1
        assert "worker stopped with exit code -9" in rest
        assert_nothing_runs(tmp_path, ports)

        second = start("make", "run")
        read_until(second, READY)
        # Nobody logs in again: the session is kept, and what was made is found.
        assert f"<h1>{MADE}</h1>" in await owner.page(made.headers["location"])
    os.killpg(second.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
    code, rest = ending(second)
    assert stopped(rest) == IN_REVERSE
    assert "Traceback" not in rest
    assert_nothing_runs(tmp_path, ports)

    third = start("make", "run")
    read_until(third, "  Redis ")
    third.send_signal(signal.SIGTERM)  # to make alone, as a supervisor would; in the middle of a start
    parts = stopped(ending(third)[1])
    assert len(parts) >= 3, "at least stand-ins, PostgreSQL and Redis had been started"
    assert parts == IN_REVERSE[-len(parts) :]
    assert_nothing_runs(tmp_path, ports)


async def _assert_addresses(output: str, home: Path) -> None:
    """Whatever is printed as an address answers, as it is printed."""
    rows = [line.strip("| ").split() for line in output.splitlines() if line.startswith("| ")]
    found = {row[0]: row[1] for row in rows if len(row) > 1 and row[1].startswith("http")}
    mail = ["inbox", "inbox-us", "SendGrid"]
    others = ["identity", "codes", "Stripe", "rates", "GitHub", "Plausible", "scanner", "webhooks"]
    assert list(found) == ["app", "API", *mail, *others]
    commands = [shlex.split(output.partition(label)[2].splitlines()[0]) for label in ("API: ", READY)]
    assert [(command[0], command[1], len(command)) for command in commands] == [("curl", "-H", 4)] * 2
    printed = re.findall(r"https?://[^\s|]+", output)
    assert sorted(printed) == sorted([*found.values(), *(command[3] for command in commands)])
    async with httpx.AsyncClient(timeout=20, follow_redirects=True) as http:
        for name, address in found.items():
            assert (await http.get(address)).status_code == 200, name
        assert "/openapi.json" in (await http.get(found["API"])).text
        for _, _, header, address in commands:
            assert (await http.get(address)).status_code == 401
            name, _, value = header.partition(": ")
            assert (await http.get(address, headers={name: value})).status_code == 200
    logs = next(row[1] for row in rows if row[0] == "logs")
    assert {"web.log", "worker.log"} <= {file.name for file in Path(logs).iterdir()}
    assert str(home) in logs


async def _assert_logins(output: str, logins: Logins, app: str) -> None:
    """Each login that is printed opens the door."""
    shown = [line.strip("| \n").split(maxsplit=2) for line in output.splitlines()]
    for one in logins:
        assert [one["role"], one["email"], one["password"]] in shown
        async with Client(app) as person:
            await _log_in(person, one)
    assert ["authenticator", "key", logins[-1]["authenticator_key"]] in shown


async def _log_in(person: Client, login: dict[str, str]) -> None:
    answer = await person.submit("/login", email=login["email"], password=login["password"])
    assert answer.status_code == 303, answer.text
    if key := login.get("authenticator_key"):
        assert answer.headers["location"] == "/login/code"
        answer = await person.submit("/login/code", code=code_at(key.encode(), clock.now()))
        assert answer.status_code == 303, answer.text
    assert login["email"] in await person.page("/account")


SEED = """
    SELECT organizations.name AS organization, indicators.name, count(*) AS readings, count(DISTINCT at) AS hours,
           max(at) - min(at) AS span, min(value) AS least, count(DISTINCT value) AS values, max(at) AS newest,
           corr(value, before) AS steadiness
    FROM (SELECT *, lag(value) OVER (PARTITION BY indicator_id ORDER BY at) AS before FROM readings) AS readings
    JOIN indicators ON indicators.id = indicator_id
    JOIN organizations ON organizations.id = indicators.organization_id
    WHERE indicators.source_id IS NULL
    GROUP BY organizations.name, indicators.id
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_servers_of_ones_own_are_used_and_hold_the_whole_demo(
    start: Start, tmp_path: Path, ports: dict[str, int], servers: TestServers, worker_name: str
) -> None:
    name = f"own_{worker_name}"
    servers.postgres.create_database(name)
    urls = {
        "DATABASE_URL": servers.postgres.url("ballast_app", name),
        "DATABASE_OWNER_URL": servers.postgres.url("ballast_owner", name),
        "DATABASE_MAINTENANCE_URL": servers.postgres.url("ballast_maintenance", name),
        "REDIS_URL": servers.redis.url(),
        "REDIS_NAMESPACE": f"own-{worker_name}",
    }
    try:
        running = start(**urls)
        output = read_until(running, READY)
        assert "your own, from DATABASE_URL" in output
        assert "your own, from REDIS_URL" in output
        assert servers.postgres.password("ballast_app") not in output
        assert httpx.get(f"http://127.0.0.1:{ports['app']}/readyz").status_code == 200
        _assert_nothing_embedded(running, tmp_path, ports)
        connection = await asyncpg.connect(servers.postgres.url("postgres", name))
        _assert_whole_demo(await connection.fetch(SEED))
        await _assert_sources_bring_something(connection)
        assert await connection.fetchval("SELECT count(*) FROM worker_heartbeats") == 1
        worker = (tmp_path / "logs" / "worker.log").read_text()
        assert "price mismatch" not in worker, "what is sold is there before the first comparison"
        await connection.close()
        running.send_signal(signal.SIGTERM)
        code, rest = ending(running)
        assert (code, stopped(rest)) == (0, ["web", "worker", "stand-ins"])
        assert servers.postgres.psql("SELECT 1") == "1", "what is not ours goes on"
    finally:
        servers.postgres.drop_database(name)


async def _assert_sources_bring_something(connection: asyncpg.Connection[Any]) -> None:
    """One of each kind, asked by the worker since the start."""
    until = clock.now() + timedelta(seconds=120)
    while True:
        rows = await connection.fetch(
            "SELECT kind, trouble, latest_value FROM sources JOIN indicators ON source_id = sources.id ORDER BY kind"
        )
        if all(row["latest_value"] is not None for row in rows) or clock.now() > until:
            break
        await asyncio.sleep(0.2)
    assert [row["kind"] for row in rows] == ["github", "plausible", "rates"]
    assert [dict(row) for row in rows if row["trouble"] or row["latest_value"] is None] == []


def _assert_nothing_embedded(running: subprocess.Popen[str], home: Path, ports: dict[str, int]) -> None:
    assert not (home / "postgres").exists()
    assert not (home / "redis").exists()
    assert is_free(ports["postgres"])
    assert is_free(ports["redis"])
    commands = [command_line(pid) for pid in children_of(running.pid)]
    assert sorted(words.split(" -m ")[1].split()[0] for words in commands) == ["infra.sandbox", "service", "service"]
    assert not [line for line in processes_of(home) if "postgres" in line or "valkey" in line]


def _assert_whole_demo(rows: list[Any]) -> None:
    """Three organizations, forty indicators, ninety days of hourly readings that look like something measured."""
    organizations = [row["organization"] for row in rows]
    assert sorted(map(organizations.count, set(organizations))) == [10, 14, 16]
    for row in rows:
        imported = (row["organization"], row["name"]) == ("Northwind Traders", "Orders")  # two days, two rows refused
        assert row["readings"] == row["hours"] == 90 * 24 + 46 * imported, row
        assert row["span"].total_seconds() == (90 * 24 - 1 + 49 * imported) * 3600, row
        assert 0 <= (clock.now() - row["newest"]).total_seconds() < 7200, row
        assert row["least"] >= 0, row
        assert row["values"] >= 20, f"{row}: it hardly moves"
        assert row["steadiness"] > 0.5, f"{row}: noise, not a course"
