"""Every statement the suite sends is remembered, then explained on skewed data: the plans are checked, not the timings.

A table of ten rows is always scanned, so a missing index shows in no test; it shows in production, at two hundred
users. Here one organization owns most of a hundred thousand rows and the planner is asked what it would do.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import structlog

from service.core import telemetry

LARGE = 1_000
REPEATS = 8
REPEATS_OF_ALL_ATTEMPTS = 16
"""Of a request that tries again after a pause: calling each round of a loop an attempt is no way around the check."""
LEAST = 120
READS = re.compile(r"^\s*(SELECT|WITH|UPDATE|DELETE|INSERT)\b", re.IGNORECASE)
INTERNAL = re.compile(
    r"\b(?:FROM|JOIN|INTO|UPDATE)\s+(?:pg_catalog\.)?\"?(?:pg_|alembic_version|pgqueuer)", re.IGNORECASE
)
"""The tables of libraries and of the catalog are not ours to index; a function that begins with pg_ says nothing."""

ON_PURPOSE: dict[str, str] = {
    "ctid = any(array(": "the purge, in bounded rounds, by a job",
}
"""Part of a statement -> why it may scan a large table: a job that reads everything, once a night."""


class Capture:
    """Listens to `telemetry.statement_listeners` and counts how often one request, or job, sent the same statement."""

    def __init__(self) -> None:
        self.statements: set[str] = set()
        self.repeated: dict[str, tuple[int, str]] = {}
        self._per_request: Counter[tuple[str, ...]] = Counter()

    def __call__(self, sql: str) -> None:
        self.statements.add(sql)
        bound = structlog.contextvars.get_contextvars()
        if not bound.get("request_id"):
            return
        # A job carries the id of the request that wanted it, through all its attempts.
        one = tuple(str(bound.get(name, "")) for name in ("request_id", "job_id", "attempt"))
        self._count(one, sql, REPEATS)
        if "attempt" in bound and "job_id" not in bound:
            self._count(("all attempts", one[0]), sql, REPEATS_OF_ALL_ATTEMPTS)

    def _count(self, one: tuple[str, ...], sql: str, most: int) -> None:
        self._per_request[*one, sql] += 1
        if (times := self._per_request[*one, sql]) > max(most, self.repeated.get(sql, (0, ""))[0]):
            job = structlog.contextvars.get_contextvars().get("job", "")
            self.repeated[sql] = times, f"{job} {os.environ.get('PYTEST_CURRENT_TEST', '')}".strip()

    def save(self, path: Path) -> None:
        path.write_text(json.dumps({"statements": sorted(self.statements), "repeated": self.repeated}))


capture = Capture()


def listen() -> None:
    """To what the units of work send, and to the pools of single statements, which no unit of work knows of."""
    telemetry.statement_listeners.append(capture)
    asyncpg.create_pool = partial(asyncpg.create_pool, init=_overhear)


async def _overhear(connection: asyncpg.Connection[Any]) -> None:
    connection.add_query_logger(lambda sent: capture(sent.query))


def combine(files: list[Path]) -> tuple[set[str], dict[str, tuple[int, str]]]:
    """What all workers saw together."""
    statements: set[str] = set()
    repeated: dict[str, tuple[int, str]] = {}
    for file in files:
        found = json.loads(file.read_text())
        statements |= set(found["statements"])
        for sql, (times, during) in found["repeated"].items():
            repeated[sql] = max((times, during), repeated.get(sql, (0, "")))
    return statements, repeated


async def complaints(url: str, statements: set[str], repeated: dict[str, tuple[int, str]]) -> list[str]:
    """One sentence per offender; `url` is the skewed database as the superuser."""
    ours = sorted(sql for sql in statements if READS.match(sql) and not INTERNAL.search(sql))
    found = [
        f"sent {times} times in one request (N+1), {during}: {short(sql)}" for sql, (times, during) in repeated.items()
    ]
    db = await asyncpg.connect(url)
    try:
        large = await large_tables(db)
        await db.execute(PLAN_OF)
        await db.execute("SET ROLE ballast_app")
        explained = 0
        for sql in ours:
            try:
                plan = json.loads(await db.fetchval("SELECT plan_of($1)", sql))[0]["Plan"]
            except (asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedTableError):
                continue  # the maintenance role's statement (jobs may read everything), or a test's own table
            explained += 1
            if re.search(r"\bOFFSET\b", sql):
                found.append(f"pages by OFFSET: {short(sql)}")
            scanned = {node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"} & large
            if scanned and not any(part in sql for part in ON_PURPOSE):
                found.append(f"scans {', '.join(sorted(scanned))} from end to end; give it an index: {short(sql)}")
        if len(large) < 15 or explained < LEAST:
            found.append(f"the check is blind: {len(large)} large tables, {explained} statements explained")
    finally:
        await db.close()
    return found


def unneeded(statements: set[str]) -> list[str]:
    """Exceptions that outlived what they were made for: the next bad statement would slip through."""
    return [
        f"no statement is like {part!r} any more: take it out of ON_PURPOSE"
        for part in ON_PURPOSE
        if not any(part in sql for sql in statements)
    ]


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


def short(sql: str) -> str:
    return " ".join(sql.split())[:400]


async def large_tables(db: asyncpg.Connection[Any]) -> set[str]:
    rows = await db.fetch("SELECT relname FROM pg_class WHERE relkind = 'r' AND reltuples >= $1", LARGE)
    return {row["relname"] for row in rows}


# A driver would bind values, and the planner would plan for those; here the parameters stay unknown.
PLAN_OF = """
CREATE OR REPLACE FUNCTION plan_of(statement text) RETURNS json LANGUAGE plpgsql AS $$
DECLARE found json;
BEGIN
    EXECUTE 'EXPLAIN (GENERIC_PLAN, FORMAT JSON) ' || statement INTO found;
    RETURN found;
END
$$
"""

# The rows refer to each other by construction: triggers that look each reference up take a quarter of the time.
SKEW = """
SET session_replication_role = replica;
INSERT INTO organizations (id, name, created_at)
    SELECT md5('o' || n)::uuid, 'Organization ' || n, now() FROM generate_series(1, 3000) n;
INSERT INTO users (id, email, name, created_at)
    SELECT md5('u' || n)::uuid, 'u' || n || '@example.com', 'U', now() FROM generate_series(1, 20000) n;
INSERT INTO memberships (id, organization_id, user_id, role, created_at)
    SELECT md5('m' || n)::uuid, md5('o' || CASE WHEN n <= 8000 THEN 1 ELSE n % 3000 + 1 END)::uuid,
        md5('u' || n)::uuid, 'member', now() FROM generate_series(1, 20000) n;
INSERT INTO invitations (id, organization_id, email, role, sendings, token_hash, created_at, expires_at)
    SELECT md5('i' || n)::uuid, md5('o' || CASE WHEN n <= 2000 THEN 1 ELSE n % 3000 + 1 END)::uuid,
        'i' || n || '@example.com', 'member', 1, sha256(n::text::bytea), now(), now() FROM generate_series(1, 6000) n;
INSERT INTO one_time_tokens (id, user_id, purpose, bound_to, created_at, expires_at)
    SELECT md5('t' || n)::uuid, md5('u' || n)::uuid, 'reset', '\\x00', now(), now() + n * interval '1 minute'
    FROM generate_series(1, 20000) n;
INSERT INTO recovery_codes (id, user_id, code_hash, created_at)
    SELECT md5('r' || n)::uuid, md5('u' || n % 2000 + 1)::uuid, sha256(n::text::bytea), now()
    FROM generate_series(1, 20000) n;
INSERT INTO former_addresses (id, user_id, email, until)
    SELECT md5('a' || n)::uuid, md5('u' || n % 2000 + 1)::uuid, '\\x0001', now() FROM generate_series(1, 10000) n;
INSERT INTO external_identities (id, user_id, issuer, subject, created_at)
    SELECT md5('e' || n)::uuid, md5('u' || n)::uuid, 'https://id.example', n::text, now()
    FROM generate_series(1, 6000) n;
INSERT INTO indicators (id, organization_id, name, created_at, changed_at)
    SELECT md5('n' || n)::uuid, md5('o' || CASE WHEN n <= 2000 THEN 1 ELSE n % 3000 + 1 END)::uuid,
        'Indicator ' || n, now(), now() FROM generate_series(1, 9000) n;
INSERT INTO readings (organization_id, indicator_id, at, value)
    SELECT md5('o1')::uuid, md5('n' || n % 50 + 1)::uuid, now() - n * interval '1 minute', n
    FROM generate_series(1, 60000) n;
INSERT INTO reading_hours (organization_id, indicator_id, hour, count, total, low, high)
    SELECT organization_id, indicator_id, date_trunc('hour', at, 'UTC'), count(*), sum(value), min(value), max(value)
    FROM readings GROUP BY 1, 2, 3;
INSERT INTO webhook_endpoints (id, organization_id, url, description, event_types, ordered, state, reason, secret,
        created_at, failures)
    SELECT md5('w' || n)::uuid, md5('o' || CASE WHEN n <= 20 THEN 1 ELSE n % 3000 + 1 END)::uuid, 'https://example.com',
        '', '{plan.changed}', false, 'active', '', '\\x00', now(), 0 FROM generate_series(1, 9000) n;
INSERT INTO webhook_deliveries (organization_id, endpoint_id, event_id, type, payload, state, created_at,
        next_attempt_at)
    SELECT md5('o1')::uuid, md5('w' || n % 20 + 1)::uuid, md5('e' || n)::uuid, 'plan.changed', '{}',
        CASE WHEN n % 50 = 0 THEN 'waiting' ELSE 'delivered' END, now() - n * interval '1 minute', now()
    FROM generate_series(1, 30000) n;
INSERT INTO webhook_attempts (organization_id, delivery_id, number, at, milliseconds, error, response)
    SELECT organization_id, id, 1, now(), 1, '', '' FROM webhook_deliveries;
INSERT INTO files (id, organization_id, name, kind, key, size, digest, state, finding, active, looks, next_look_at,
        checked_at, created_at)
    SELECT md5('f' || n)::uuid, md5('o' || CASE WHEN n <= 4000 THEN 1 ELSE n % 3000 + 1 END)::uuid, 'file', 'txt',
        't/' || n, n, '\\x00', CASE WHEN n % 50 = 0 THEN 'pending' ELSE 'clean' END, '', false, 0, now(),
        now() - n * interval '1 minute', now() FROM generate_series(1, 12000) n;
INSERT INTO file_findings (id, organization_id, file_id, signature, found_at)
    SELECT md5('v' || n)::uuid, md5('o1')::uuid, md5('f' || n)::uuid, 'x', now() FROM generate_series(1, 3000) n;
INSERT INTO file_removals (key, asked_at) SELECT 't/gone/' || n, now() FROM generate_series(1, 3000) n;
INSERT INTO audit_log (id, at, organization_id, actor_kind, action, object_type, outcome, reason,
        request_id, session_ref, address_prefix, changes, facts, row_hash)
    SELECT md5('a' || n)::uuid, now() - n * interval '1 minute',
        md5('o' || CASE WHEN n <= 20000 THEN 1 ELSE n % 3000 + 1 END)::uuid, 'user', 'indicators.create', 'Indicator',
        'succeeded', '', 'r', '', '', '{}', '{}', sha256(n::text::bytea)
    FROM generate_series(1, 40000) n;
INSERT INTO api_keys (id, organization_id, name, role, scopes, prefix, secret_hash, created_at)
    SELECT md5('k' || n)::uuid, md5('o' || CASE WHEN n <= 500 THEN 1 ELSE n % 3000 + 1 END)::uuid, 'Key', 'admin',
        '{}', 'blst_' || left(md5(n::text), 8), sha256(n::text::bytea), now() FROM generate_series(1, 9000) n;
INSERT INTO idempotency_keys (owner_id, actor_id, route, key, fingerprint, answer, created_at)
    SELECT md5('o' || n % 3000 + 1)::uuid, md5('u' || n)::uuid, 'r', n::text, sha256(n::text::bytea), '\\x00',
        now() FROM generate_series(1, 20000) n;
INSERT INTO notifications (id, organization_id, user_id, kind, text, href, key, created_at, read_at)
    SELECT md5('f' || n)::uuid, md5('o1')::uuid, md5('u' || n % 2000 + 1)::uuid, 'k', 't', '/', n::text, now(),
        CASE WHEN n % 10 > 0 THEN now() END FROM generate_series(1, 20000) n;
INSERT INTO notification_choices (user_id, kind, channel, changed_at)
    SELECT md5('u' || n)::uuid, 'k', 'app', now() FROM generate_series(1, 10000) n;
INSERT INTO sources (id, organization_id, kind, target, config, created_at, next_pull_at)
    SELECT md5('s' || n)::uuid, md5('o' || CASE WHEN n <= 100 THEN 1 ELSE n % 3000 + 1 END)::uuid, 'rates',
        'Source ' || n, '{}', now(), now() + n * interval '1 second' FROM generate_series(1, 9000) n;
INSERT INTO source_feeds (organization_id, source_id, series, indicator_id)
    SELECT md5('o1')::uuid, md5('s' || n % 100 + 1)::uuid, n::text, md5('n' || n)::uuid FROM generate_series(1, 2000) n;
INSERT INTO source_runs (id, organization_id, source_id, at, outcome, added, took_ms, detail)
    SELECT md5('x' || n)::uuid, md5('o1')::uuid, md5('s' || n % 100 + 1)::uuid, now() - n * interval '1 minute',
        'stored', 1, 1, '' FROM generate_series(1, 40000) n;
INSERT INTO imports (id, organization_id, created_at, name, mode, zone, decimal, state, object_key)
    SELECT md5('c' || n)::uuid, md5('o' || CASE WHEN n <= 2000 THEN 1 ELSE n % 3000 + 1 END)::uuid, now(), 'x.csv',
        'all', 'UTC', 'point', 'done', CASE WHEN n % 100 = 0 THEN 'x' END FROM generate_series(1, 9000) n;
INSERT INTO import_verdicts (organization_id, import_id, number, refused, report)
    SELECT organization_id, id, n, n % 2, 'x' FROM imports, generate_series(1, 4) n;
INSERT INTO import_rows (organization_id, import_id, indicator_id, at, value, line)
    SELECT md5('o1')::uuid, md5('c' || n % 50 + 1)::uuid, md5('n1')::uuid, now() - n * interval '1 minute', 1, n
    FROM generate_series(1, 20000) n;
INSERT INTO sent_mails (reference, template, address_hash, state, attempts, first_tried_at, tried_at, accepted_at)
    SELECT n::text, 't', sha256(n::text::bytea), 'sent', 1, now(), now(), now() FROM generate_series(1, 20000) n;
INSERT INTO mail_suppressions (id, address_hash, email, cause, code, seen_at)
    SELECT md5('s' || n)::uuid, sha256(n::text::bytea), n || '@example.com', 'bounce', '5.1.1', now()
    FROM generate_series(1, 10000) n;
ANALYZE;
"""


@contextmanager
def sent_here() -> Iterator[list[str]]:
    """The statements of this thread; the servers and workers of the run have threads of their own."""
    found, here = list[str](), threading.get_ident()

    def listen_here(sql: str) -> None:
        if threading.get_ident() == here:
            found.append(sql)

    telemetry.statement_listeners.append(listen_here)
    try:
        yield found
    finally:
        telemetry.statement_listeners.remove(listen_here)
