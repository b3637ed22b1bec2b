"""The page about the system says what is so: with a worker and without trouble, and each trouble where it happens."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson
import pytest

from service.core import clock, migrate, telemetry
from service.core.database import Database
from service.core.ids import new_id
from service.core.scripts import now_ms
from service.guardrails import audit
from service.guardrails.circuit_breaker import CircuitBreaker
from service.guardrails.jobs.runs import is_late
from service.guardrails.permissions import Role
from service.guardrails.processes import LIFE_MS, TELL
from tests.support.client import Client
from tests.support.factories import Factory, Person
from tests.support.servers import RunningWorker

PAGE = "/staff/system"
LONG = 600


def line(page: str, name: str) -> str:
    """The words of the table's row that begins with `name`; empty when there is none."""
    for row in page.split("<tr>"):
        words = html.unescape(re.sub(r"<[^>]+>", " ", row.split("</tr>")[0]))
        if " ".join(words.split()).startswith(name):
            return " ".join(words.split())
    return ""


async def until(found: Callable[[], Awaitable[bool]], what: str) -> None:
    for _ in range(LONG):
        if await found():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(what)


async def test_who_lives_what_runs_and_when_it_ran(
    staff: Client, worker: RunningWorker, superuser: asyncpg.Connection[Any]
) -> None:
    async def worker_lives() -> bool:
        page = await staff.page(PAGE)
        told = page.split("Each tells every five seconds")[1]
        return "heard" in line(page, "Worker ") and ">worker<" in told and ">web<" in told

    await until(worker_lives, "no worker and no web process told that it lives")
    page = await staff.page(PAGE)
    assert line(page, "Schema").startswith(f"Schema {migrate.head()} Good")
    assert "Good" in line(page, "Revision")
    assert "Good" in line(page, "Redis")
    assert re.match(r"PostgreSQL \d\d", line(page, "PostgreSQL"))
    assert line(page, "fastapi")
    name = "invariants.check_invariants"
    await superuser.execute("DELETE FROM periodic_runs WHERE name = $1", name)
    assert "not yet" in line(await staff.page(PAGE), name)
    await superuser.execute(
        "INSERT INTO pgqueuer (priority, status, entrypoint, payload, heartbeat, created, updated, execute_after)"
        " VALUES (0, 'queued', $1, '{}', now(), now(), now(), now())",
        name,
    )

    async def ran() -> bool:
        return "took" in line(await staff.page(PAGE), name)

    await until(ran, "the periodic job ran and left no trace")
    assert "Good" in line(await staff.page(PAGE), name)
    assert "every quarter of an hour" in page


async def test_a_release_that_tells_other_facts_is_shown(staff: Client, factory: Factory) -> None:
    """While one takes over from the other, the page must not fail over the older or the newer."""
    space, older, newer = factory.resources.settings.redis_namespace, new_id().hex, new_id().hex
    told = {older: {"kind": "web"}, newer: {"kind": "web", "started_at": clock.now().isoformat(), "memory": 3}}
    for identifier, facts in told.items():
        await TELL.run(factory.resources, space, identifier, now_ms(), LIFE_MS, orjson.dumps(facts))
    page = await staff.page(PAGE)
    await factory.resources.redis.zrem(f"{space}:processes", older, newer)
    assert all(identifier[-8:] in page for identifier in told)


async def test_each_trouble_is_told_where_it_is(
    staff: Client, worker: RunningWorker, superuser: asyncpg.Connection[Any]
) -> None:
    stuck, peer, stream = f"probe.stuck{new_id().hex[-6:]}", f"peer-{new_id().hex[-6:]}", f"probe{new_id().hex[-6:]}"
    breaker = CircuitBreaker(peer, failures=1, rest=3600)
    with pytest.raises(ConnectionError):
        async with breaker:
            raise ConnectionError("the peer is away")
    await superuser.execute(
        "INSERT INTO pgqueuer (priority, status, entrypoint, payload, heartbeat, created, updated, execute_after)"
        " VALUES (0, 'queued', $1, '{}', now(), now(), now(), now() - interval '20 minutes')",
        stuck,
    )
    await superuser.execute(
        "INSERT INTO billing_sweeps (stream, cursor, ran_at, drift) VALUES ($1, 0, now(), '{\"state_differs\": 3}')",
        stream,
    )
    await superuser.execute(
        "INSERT INTO invariant_results (name, violations, checked_at) VALUES ($1, 2, now())", f"probe_{stream}"
    )
    known = await superuser.fetchval("SELECT version_num FROM alembic_version")
    older = migrate.revisions()[migrate.head()]

    async def open_peer() -> bool:
        return "open in" in line(await staff.page(PAGE), peer)

    try:
        await until(open_peer, "no process told that its breaker is open")
        await superuser.execute("UPDATE alembic_version SET version_num = $1", older)
        page = await staff.page(PAGE)
    finally:
        await superuser.execute("UPDATE alembic_version SET version_num = $1", known)
        await superuser.execute("DELETE FROM pgqueuer WHERE entrypoint = $1", stuck)
        await superuser.execute("DELETE FROM billing_sweeps WHERE stream = $1", stream)
        await superuser.execute("DELETE FROM invariant_results WHERE name = $1", f"probe_{stream}")
        telemetry.circuit_state.remove(peer)
    assert "Bad" in line(page, peer)
    assert "ops/runbooks/SourcesFailing.md" in line(page, peer)
    assert "1 due, the oldest for 12" in line(page, stuck)
    assert "Bad" in line(page, stuck)
    assert "state differs: 3" in line(page, f"Billing against Stripe: {stream}")
    assert "2 broken" in line(page, f"probe_{stream}")
    assert f"the database has {older} Bad" in line(page, "Schema")


async def test_the_log_is_verified_on_demand_and_not_by_a_job(
    staff: Client,
    staff_person: Person,
    worker: RunningWorker,
    superuser: asyncpg.Connection[Any],
    maintenance: Database,
) -> None:
    """A job's transaction would keep the log from being sealed, and so make the log look cut off."""
    before = datetime.now(UTC)
    assert (await staff.submit(f"{PAGE}/verify-log", page=PAGE)).status_code == 303

    async def verified() -> bool:
        page = await staff.page(PAGE)
        return "Under way" not in page and "segments, verified" in page

    await until(verified, "nobody verified the log")
    asked = await superuser.fetchrow(
        "SELECT * FROM audit_log WHERE action = 'admin.verify_log' AND actor_id = $1", staff_person.id
    )
    assert asked is not None
    assert asked["at"] >= before - timedelta(seconds=1)
    looked = await superuser.fetchrow(
        "SELECT * FROM audit_checks WHERE checked_at BETWEEN $1 AND now() AND problems IS NOT NULL", asked["at"]
    )
    assert looked is not None
    assert looked["rows"] > 0
    assert not await audit.check_when_due(maintenance, worker.settings), "once: the mark is older than the look"


@pytest.mark.parametrize(
    ("schedule", "minutes_ago", "late"),
    [
        ("*/15 * * * *", 10, False),
        ("*/15 * * * *", 40, True),
        ("0 3 * * *", 60 * 23, False),
        ("0 3 * * *", 3_000, True),
    ],
)
def test_one_turn_late_is_not_late(schedule: str, minutes_ago: int, late: bool) -> None:
    now = datetime(2026, 11, 23, 2, 7, tzinfo=UTC)
    assert is_late(schedule, now - timedelta(minutes=minutes_ago), now) is late


async def test_nobody_else_looks_or_verifies(staff: Client, factory: Factory) -> None:
    async with await factory.client(await factory.person(Role.OWNER)) as client:
        assert (await client.get(PAGE)).status_code == 404
        assert (await client.post(f"{PAGE}/verify-log", csrf=client.csrf)).status_code == 404
    clock.advance(timedelta(minutes=11))
    late = await staff.post(f"{PAGE}/verify-log", csrf=staff.csrf)
    assert late.headers["location"].startswith("/confirm")
