"""The check of the whole suite's statements (tests/support/captured_sql.py) sees what it should."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest

from service.core import telemetry
from service.core.context import Resources
from service.guardrails import idempotency
from service.guardrails.inbox import AcknowledgingPool
from service.guardrails.pagination import BATCH
from tests.conftest import SKEWED, TestServers, make_skewed
from tests.support import captured_sql
from tests.support.captured_sql import Capture, complaints

POLICIES = """
    SELECT polrelid::regclass::text AS name, pg_get_expr(polqual, polrelid) AS condition
    FROM pg_policy WHERE polname = polrelid::regclass::text || '_staff'
"""
STAFF = "current_setting('app.staff', true) = 'on'"


@pytest.fixture(scope="module")
def skewed(servers: TestServers, worker_name: str) -> Iterator[str]:
    make_skewed(servers)
    name = f"skewed_{worker_name}"
    # A copy of its files: page by page through the log takes five times as long.
    servers.postgres.psql(f"CREATE DATABASE {name} TEMPLATE {SKEWED} STRATEGY file_copy")
    yield servers.postgres.url("postgres", name)
    servers.postgres.drop_database(name)


async def test_a_scan_an_offset_and_a_loop_are_named(skewed: str) -> None:
    bad = {
        "SELECT id FROM users WHERE name = $1",
        "SELECT id FROM indicators ORDER BY organization_id, name, id LIMIT 10 OFFSET 20",
    }
    found = await complaints(skewed, bad, {"SELECT 1": (40, "a test")})
    assert any("scans users" in line for line in found), found
    assert any("OFFSET" in line for line in found)
    assert any("40 times in one request (N+1), a test" in line for line in found)


async def test_an_indexed_statement_is_not_named(skewed: str) -> None:
    found = await complaints(skewed, {"SELECT id FROM users WHERE email = $1"}, {})
    assert [line for line in found if "users" in line] == []


async def test_lists_of_staff_walk_their_keys(skewed: str) -> None:
    """Over all organizations' rows, as service/web/staff_lists.py asks; and it bites: asked by row, each is sorted."""
    db = await asyncpg.connect(skewed)
    try:
        policies = {row["name"]: row["condition"] for row in await db.fetch(POLICIES)}
        names = sorted(policies.keys() & await captured_sql.large_tables(db))
        assert len(names) >= 8, f"the scan saw only {names}"
        lists = {f"SELECT id FROM {name} ORDER BY id DESC LIMIT 51" for name in names}
        files = {f"SELECT * FROM {name} ORDER BY id DESC LIMIT {BATCH + 1}" for name in names}
        assert scanned(await complaints(skewed, lists | files, {})) == []
        for name in names:
            by_row = f"({STAFF} AND (SELECT is_staff FROM users WHERE id = current_setting('app.user', true)::uuid))"
            await db.execute(f"ALTER POLICY {name}_staff ON {name} USING {by_row}")
        try:
            # Other policies let so many people see organizations that theirs are walked all the same.
            assert scanned(await complaints(skewed, lists, {})) == sorted({*names} - {"organizations"})
        finally:
            for name in names:
                await db.execute(f"ALTER POLICY {name}_staff ON {name} USING ({policies[name]})")
    finally:
        await db.close()


def scanned(found: list[str]) -> list[str]:
    return sorted(line.split()[1] for line in found if line.startswith("scans"))


async def test_who_is_staff_and_whose_key_begins_so_is_found_by_an_index(skewed: str) -> None:
    asked = {
        "SELECT id FROM users WHERE is_staff AND staff_until IS NULL AND deleted_at IS NULL": "ix_users_staff",
        "SELECT id FROM api_keys WHERE prefix = $1 LIMIT 20": "ix_api_keys_prefix",
    }
    assert scanned(await complaints(skewed, set(asked), {})) == []
    db = await asyncpg.connect(skewed)
    try:
        for sql, index in asked.items():
            again = await db.fetchval("SELECT pg_get_indexdef(to_regclass($1))", index)
            await db.execute(f"DROP INDEX {index}")
            assert len(scanned(await complaints(skewed, {sql}, {}))) == 1, f"it bites without {index}"
            await db.execute(again)
    finally:
        await db.close()


async def test_a_statement_of_ours_that_takes_a_lock_is_explained(skewed: str) -> None:
    """The look-up of idempotency keys does, and was taken for one of the catalog's because of the name of the lock."""
    locks = "WITH claim AS (SELECT pg_try_advisory_xact_lock($2)) SELECT id FROM claim, users WHERE name = $1"
    assert any("scans users" in line for line in await complaints(skewed, {locks}, {}))


def test_what_asks_the_catalog_or_the_queue_is_not_ours() -> None:
    for sql in (
        "SELECT relname FROM pg_class",
        "SELECT 1 FROM pg_catalog.pg_class JOIN indicators ON true",
        "UPDATE pgqueuer SET status = 'queued'",
        "INSERT INTO pgqueuer_log (job_id) VALUES (1)",
        "SELECT version_num FROM alembic_version",
    ):
        assert captured_sql.INTERNAL.search(sql), sql
    assert not captured_sql.INTERNAL.search(str(idempotency.LOOK.sql))


async def test_too_few_statements_are_a_complaint(skewed: str) -> None:
    assert any("blind" in line for line in await complaints(skewed, set(), {}))


def test_an_exception_that_nothing_needs_any_more_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured_sql, "ON_PURPOSE", {"FROM old": "a job", "FROM users": "a job"})
    assert [line.split("'")[1] for line in captured_sql.unneeded({"SELECT id FROM users"})] == ["FROM old"]


def test_a_loop_in_one_request_is_counted_and_not_one_over_many_requests() -> None:
    import structlog

    seen = Capture()
    with structlog.contextvars.bound_contextvars(request_id="one"):
        for _ in range(captured_sql.REPEATS + 1):
            seen("SELECT looped")
    for number in range(50):
        with structlog.contextvars.bound_contextvars(request_id=f"request {number}"):
            seen("SELECT once")
    assert {sql: times for sql, (times, _) in seen.repeated.items()} == {"SELECT looped": captured_sql.REPEATS + 1}
    assert "test_a_loop_in_one_request" in seen.repeated["SELECT looped"][1]


def test_attempts_of_a_job_that_one_request_wanted_are_counted_each_by_itself() -> None:
    import structlog

    seen = Capture()
    for attempt in range(50):
        with structlog.contextvars.bound_contextvars(request_id="one", job_id=7, attempt=attempt):
            seen("SELECT once")
    assert seen.repeated == {}


def test_attempts_of_one_request_are_bounded_together() -> None:
    import structlog

    seen = Capture()
    for attempt in range(captured_sql.REPEATS_OF_ALL_ATTEMPTS + 1):
        with structlog.contextvars.bound_contextvars(request_id="one", attempt=attempt):
            seen("SELECT looped")
    assert seen.repeated["SELECT looped"][0] == captured_sql.REPEATS_OF_ALL_ATTEMPTS + 1


def test_the_suite_listens() -> None:
    assert captured_sql.capture in telemetry.statement_listeners


async def test_what_no_unit_of_work_sends_is_heard_too(resources: Resources) -> None:
    """The outcomes of mails, and messages from outside, go through a pool of single statements."""
    sent = "SELECT 'through the pool of single statements'"
    async with resources.get(AcknowledgingPool).connection() as raw:
        await raw.fetch(sent)
    await asyncio.sleep(0)  # the driver tells after it has answered
    assert sent in captured_sql.capture.statements
