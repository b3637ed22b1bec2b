"""No page asks once per row: the number of statements is small, and the same for two rows and for twenty."""

from __future__ import annotations

import typing
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import pytest
import structlog

from service.core import clock, telemetry
from service.core.ids import new_id
from service.guardrails import feature_flags
from service.guardrails.pagination import PageRequest
from service.guardrails.permissions import Role
from service.guardrails.switches import STATES
from tests.architecture.conftest import Route
from tests.architecture.planted import (
    NOBODY,
    address,
    billing_customer,
    dead_letter,
    deleted_endpoint,
    deleted_organization,
    download,
    ended_grant,
    ended_import,
    erasure_request,
    inbox_message,
    invite,
    notification,
    restriction,
    suppression,
    webhook_endpoint,
)
from tests.architecture.test_routes import calls
from tests.support import captured_sql
from tests.support.factories import Factory, Person

MOST = 5
MORE: dict[str, tuple[int, str]] = {
    "GET /billing": (10, "the plan, the invoices, and a count of each thing that a plan limits"),
    "GET /billing/change": (9, "the plan, and a count of each thing that a plan limits"),
    "GET /billing/operations/{operation_id}": (11, "one change, beside everything that the plan page shows"),
    "GET /staff": (10, "a count of each kind of dead letters, and the switches"),
    "GET /staff/dead-letters": (8, "a count of each kind of dead letters"),
    "GET /staff/billing/customers/{customer_id}": (13, "one customer's seven short lists, and why staff looks at it"),
    "GET /staff/organizations/{organization_id}": (12, "one organization's short lists, each from its own table"),
    "GET /staff/system": (9, "one line for each part of the service"),
    "GET /staff/people/{person_id}": (8, "one person's short lists, each from its own table, and why staff looks"),
    "GET /staff/billing/customers/{customer_id}/diff": (6, "subscriptions, invoices and the ledger beside Stripe's"),
}
"""Route -> how many statements it may send, and why it needs them."""

FEW, MANY = 2, 20
VARIANTS = ("/indicators?archived=true", "/indicators?q=indicator", "/api/v1/indicators?q=indicator")
ALSO_LISTS = {
    "GET /account/sessions",
    "GET /api/v1/indicators/dashboard",
    "GET /audit-log/export/{form}",
    "GET /dashboard",
    "GET /organizations/new",
    *(f"GET {path}" for path in VARIANTS),
}
"""What shows rows and is not paged."""
NOT_FILLED = {
    "GET /staff/break-glass-acts": "shows what was done: tests/features/support/test_break_glass.py",
    "GET /staff/dead-letters/mail-events": "of mail alone: tests/features/notifications/test_mail_pages.py",
    "GET /staff/dead-letters/webhooks": "shows what failed: tests/features/webhooks/test_dead_letters.py",
    "GET /staff/flags/declared": "shows what the code declares",
    "GET /staff/organizations": "what other tests have planted fills the first page",
    "GET /staff/people": "what other tests have planted fills the first page",
}


SHORT_LIVED = "GET /downloads/{link}"
"""Good for a minute; filling the lists takes longer on a busy machine, so its address is made when it is opened."""


class Counted:
    """How many statements each request sent. Switches and flags are left out: they are read every few seconds, by
    whoever comes first."""

    def __init__(self) -> None:
        self.by_request: dict[str, list[str]] = {}

    def __call__(self, sql: str) -> None:
        request = structlog.contextvars.get_contextvars().get("request_id")
        if request and sql not in (STATES, feature_flags.STATES.sql):
            self.by_request.setdefault(str(request), []).append(sql)


@contextmanager
def counting() -> Iterator[Counted]:
    counted = Counted()
    telemetry.statement_listeners.append(counted)
    try:
        yield counted
    finally:
        telemetry.statement_listeners.remove(counted)


async def billing_invoice(factory: Factory, organization: UUID) -> None:
    """Of a customer that is gone at Stripe, whom the first one brings along: Stripe is not asked about that one, and so
    does not say that there is no such customer and no plan."""
    await factory.superuser.execute(
        "INSERT INTO billing_customers (id, organization_id, stripe_customer_id, livemode, created_at, deleted_at)"
        " SELECT $1, $2, $3, false, now(), now()"
        " WHERE NOT EXISTS (SELECT FROM billing_customers WHERE organization_id = $2 AND deleted_at IS NOT NULL)",
        identifier := new_id(), organization, f"cus_{identifier.hex}",
    )  # fmt: skip
    await factory.superuser.execute(
        "INSERT INTO billing_subscriptions (stripe_id, organization_id, customer_id, status, currency, items,"
        " cancel_at_period_end, created_at, fetched_at, digest)"
        " SELECT $2, organization_id, id, 'canceled', 'eur', '[]', false, now(), now(), ''"
        " FROM billing_customers WHERE organization_id = $1 AND deleted_at IS NOT NULL",
        organization, f"sub_{new_id().hex}",
    )  # fmt: skip
    await factory.superuser.execute(
        "INSERT INTO billing_invoices (organization_id, customer_id, stripe_id, number, status, currency, total,"
        " amount_due, amount_paid, attempt_count, needs_action, created_at, fetched_at, digest)"
        " SELECT organization_id, id, $2, $2, 'paid', 'eur', 1200, 1200, 1200, 1, false, now(), now(), ''"
        " FROM billing_customers WHERE organization_id = $1 AND deleted_at IS NOT NULL",
        organization, f"in_{new_id().hex}",
    )  # fmt: skip


async def fill(factory: Factory, organization: UUID, person: Person, rows: int) -> None:
    """So many of everything that some page lists."""
    async with await factory.client(person) as client:
        for _ in range(rows):
            # Through the product, which writes the audit log's rows: one planted by hand would look like tampering.
            made = await client.api("POST", "/indicators", {"name": f"Indicator {new_id().hex[-10:]}"})
            assert made.status_code == 201, made.text
    db = factory.superuser
    await db.execute(
        "INSERT INTO reading_hours (organization_id, indicator_id, hour, count, total, low, high)"
        " SELECT organization_id, id, date_trunc('hour', now()), 1, 1, 1, 1 FROM indicators WHERE organization_id = $1"
        " ON CONFLICT DO NOTHING",
        organization,
    )
    await db.execute(
        "INSERT INTO readings (organization_id, indicator_id, at, value) SELECT organization_id, id,"
        " now() - n * interval '1 second', n FROM indicators, generate_series(1, $2) n WHERE organization_id = $1",
        organization, rows,
    )  # fmt: skip
    for _ in range(rows):
        await factory.indicator(organization, archived_at=clock.now())
        await factory.indicator(organization, deleted_at=clock.now(), deletion_id=new_id())
        await factory.person(Role.VIEWER, organization)
        await factory.key(organization)
        await invite(factory, organization, identifier := new_id(), f"i{identifier.hex[-10:]}@example.com")
        await invite(factory, await factory.organization(), new_id(), person.email)
        await deleted_organization(factory, organization, person)
        await db.execute(
            "INSERT INTO memberships (id, organization_id, user_id, role, created_at) VALUES ($1, $2, $3, 'owner', $4)",
            new_id(), await factory.organization(), person.id, clock.now(),
        )  # fmt: skip
        file = await factory.file(organization)
        await factory.file(organization, deleted_at=clock.now(), deletion_id=new_id())
        await db.execute(
            "INSERT INTO file_findings (id, organization_id, file_id, signature, found_at)"
            " VALUES (gen_random_uuid(), $1, $2, 'x', now())",
            organization, file,
        )  # fmt: skip
        source = await factory.source(organization)
        await factory.source(organization, deleted_at=clock.now(), deletion_id=new_id())
        await db.execute(
            "INSERT INTO source_runs (id, organization_id, source_id, at, outcome, added, took_ms, detail)"
            " SELECT gen_random_uuid(), organization_id, id, now(), 'stored', 1, 1, '' FROM sources"
            " WHERE organization_id = $1",
            organization,
        )
        await factory.fed(organization, source, "USD")
        await db.execute(
            "INSERT INTO organization_flags VALUES ($1, 'tile_range', true, now())", await factory.organization()
        )
        await db.execute(
            "INSERT INTO news (id, subject, text, created_at) VALUES ($1, 'Something new', 'For you', now())", new_id()
        )
        await restriction(factory, organization, None)
        await erasure_request(factory, organization, None)
        await dead_letter(factory, organization, None)
        await ended_import(factory, organization, None)
        await inbox_message(factory, organization, None)
        await notification(factory, organization, person)
        await webhook_endpoint(factory, organization, person, failing_since=clock.now())
        await deleted_endpoint(factory, organization, person)
        await suppression(factory, organization, None)
        await billing_invoice(factory, organization)
        await db.execute(
            "UPDATE billing_customers SET dirty_gen = 1, dead_at = now(), last_error = $2 WHERE id = $1",
            UUID(await billing_customer(factory, organization, None)), NOBODY,
        )  # fmt: skip
        await factory.log_in(person)
        await ended_grant(factory, organization, None)
        await db.execute(
            "INSERT INTO support_visits (id, organization_id, person_id, staff_id, reason, began_at, ends_at)"
            " VALUES (gen_random_uuid(), $1, $2, $2, 'They asked.', now(), now())",
            organization, person.id,
        )  # fmt: skip


async def log_of(factory: Factory, organization: UUID, endpoints: list[UUID], rows: int) -> None:
    await factory.superuser.execute(
        "INSERT INTO webhook_deliveries (organization_id, endpoint_id, event_id, type, payload, state, created_at,"
        " next_attempt_at) SELECT $1, endpoint, gen_random_uuid(), 'plan.changed', '{}', 'delivered', now(), now()"
        " FROM generate_series(1, $3), unnest($2::uuid[]) endpoint",
        organization, endpoints, rows,
    )  # fmt: skip


@dataclass(frozen=True)
class Visit:
    statements: list[str]
    size: int


async def visit(factory: Factory, person: Person, counted: Counted, paths: dict[str, str]) -> dict[str, Visit]:
    """Open every page, logged in anew: the sessions planted before have ended the oldest one."""
    found = {}
    redis, exports = factory.resources.redis, f"{factory.resources.settings.redis_namespace}:l:export:*"
    async with await factory.client(person, "password", "totp") as client:
        for name, path in paths.items():
            # There are more exports to look at than an organization may take in an hour.
            async for key in redis.scan_iter(exports, count=1000):
                await redis.delete(key)
            if name == SHORT_LIVED and person.organization_id:
                path = f"/downloads/{await download(factory, person.organization_id, person)}"
            answer = await client.get(path, headers=client.bearer if "/api/" in path else {})
            assert answer.status_code in (200, 303), f"{name}: {answer.status_code} {answer.text[:300]}"
            found[name] = Visit(counted.by_request.get(answer.headers["x-request-id"], []), len(answer.content))
    return found


def offenders(few: dict[str, Visit], many: dict[str, Visit]) -> list[str]:
    found = []
    for name, now in many.items():
        before, after = len(few[name].statements), len(now.statements)
        if after > MORE.get(name, (MOST, ""))[0]:
            again = Counter(now.statements).most_common(1)[0]
            found.append(f"{name} sends {after} statements, {again[1]} times {captured_sql.short(again[0])[:120]}")
        elif before != after:
            found.append(f"{name} sends {before} statements for {FEW} rows and {after} for {MANY}")
    return found


def lists(routes: list[Route]) -> set[str]:
    page = typing.get_args(PageRequest)[1].dependency
    paged = {str(route) for route in routes if route.method == "GET" and page in set(calls(route.api_route.dependant))}
    return (paged | ALSO_LISTS) - set(NOT_FILLED)


@pytest.fixture(scope="module")
async def visits(routes: list[Route], factory: Factory) -> AsyncIterator[tuple[dict[str, Visit], dict[str, Visit]]]:
    """Every page and every read of the API, with few rows of everything and with many."""
    person = await factory.person(Role.OWNER, staff=True)
    organization = person.organization_id
    assert organization is not None
    await factory.plan(organization)
    # A CSV is read in batches of the list's own statement, as many as there are rows of everybody.
    reads = [route for route in routes if route.method == "GET" and not route.path.endswith("/csv")]
    paths = {str(route): await address(route, factory, organization, person) for route in reads}
    paths |= {f"GET {path}": path for path in VARIANTS}
    # Every organization's together always fill a page.
    for name in ("events", "memberships", "api-keys"):
        paths[f"GET /staff/{name}"] += f"?organization_id={organization}"
    paths["GET /staff/jobs"] += f"?state=given_up&name={NOBODY}"
    logged = ("GET /webhook-endpoints/{endpoint_id}", "GET /api/v1/webhooks/{endpoint_id}/deliveries")
    endpoints = [UUID(paths[name].removesuffix("/deliveries").rsplit("/", 1)[1]) for name in logged]
    with counting() as counted:
        await fill(factory, organization, person, FEW)
        await log_of(factory, organization, endpoints, FEW)
        few = await visit(factory, person, counted, paths)
        await fill(factory, organization, person, MANY - FEW)
        await log_of(factory, organization, endpoints, MANY - FEW)
        many = await visit(factory, person, counted, paths)
    yield few, many
    await factory.superuser.execute("DELETE FROM pgqueuer WHERE entrypoint = $1", NOBODY)
    await factory.superuser.execute("DELETE FROM billing_customers WHERE last_error = $1", NOBODY)


Visits = tuple[dict[str, Visit], dict[str, Visit]]


@pytest.mark.slow
def test_no_page_asks_once_per_row(visits: Visits) -> None:
    few, many = visits
    assert len(many) >= 56, f"the scan saw only {len(many)} pages"
    asking = [name for name, now in many.items() if now.statements]
    assert len(asking) >= 38, f"only {len(asking)} pages sent a statement: the count is blind"
    found = offenders(few, many)
    assert not found, (
        f"{found}: fetch what the rows need with one join or one IN; or list the route with its reason in MORE"
    )


def test_the_lists_were_filled(routes: list[Route], visits: Visits) -> None:
    """Counting over an empty list finds nothing. Each row takes far more than twenty characters."""
    few, many = visits
    wanted = lists(routes)
    assert len(wanted) >= 20, f"the scan saw only {len(wanted)} lists"
    empty = [name for name in sorted(wanted) if many[name].size < few[name].size + (MANY - FEW) * 20]
    assert not empty, f"{empty}: plant rows for these pages in fill()"


def test_a_statement_per_row_and_too_many_are_named() -> None:
    once, twice = Visit(["SELECT 1"], 0), Visit(["SELECT 1", "SELECT 2"], 0)
    loop, greedy = Visit(["SELECT 1"] * MANY, 0), Visit([f"SELECT {n}" for n in range(MOST + 1)], 0)
    assert offenders({"GET /a": once}, {"GET /a": once}) == []
    assert offenders({"GET /a": once}, {"GET /a": twice}) == ["GET /a sends 1 statements for 2 rows and 2 for 20"]
    assert offenders({"GET /a": once}, {"GET /a": loop}) == ["GET /a sends 20 statements, 20 times SELECT 1"]
    assert offenders({"GET /a": greedy}, {"GET /a": greedy}) == ["GET /a sends 6 statements, 1 times SELECT 0"]
