"""What operators see of billing, and what time alone changes: gauges, ends that come unannounced, bodies that go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeAlias

import asyncpg
import pytest

from service.core import clock, telemetry
from service.core.context import SYSTEM, Caller, Context, Resources
from service.core.database import Database
from service.core.ids import new_id
from service.features.billing.flows.measures import measure
from service.features.billing.jobs.sweeps import find_what_ran_out
from service.features.status import pages
from service.guardrails.inbox import BODY_DAYS, forget_bodies
from service.guardrails.jobs.consumer import consume
from service.guardrails.purge import purge_expired
from tests.features.billing.conftest import Subscribe
from tests.features.billing.lone import MakeLone
from tests.support.factories import Factory

pytest_plugins = ("tests.guardrails.durability", "tests.features.billing.alone")
Superuser: TypeAlias = "asyncpg.Connection[Any]"
Gauge = Callable[..., float]


@pytest.fixture
def gauge() -> Gauge:
    def value(name: str, **labels: str) -> float:
        found = telemetry.REGISTRY.get_sample_value(name, labels)
        assert found is not None, name
        return found

    return value


@pytest.fixture
async def workers(resources: Resources, maintenance: Database) -> Resources:
    """What a worker has: the maintenance role besides."""
    return Resources(resources.settings, resources.database, resources.redis, maintenance)


@pytest.fixture
async def lone_workers(alone: Resources, own_maintenance: Database) -> Resources:
    return Resources(alone.settings, alone.database, alone.redis, own_maintenance)


async def message(superuser: Superuser, *, state: str = "pending", kind: str = "invoice.created", days: float) -> str:
    name = f"evt_{new_id().hex}"
    await superuser.execute(
        "INSERT INTO inbox (source, realm, external_id, type, subject, facts, body, state, reason, attempts,"
        " received_at, next_attempt_at) VALUES ('stripe', 'test', $1::text, $2, $1, '{}', 'a body', $3, '', 0,"
        " now() - make_interval(secs => $4), now() + interval '1 day')",
        name, kind, state, days * 86400,
    )  # fmt: skip
    return name


async def test_what_waits_is_measured(
    lone: MakeLone, lone_workers: Resources, own_superuser: Superuser, own_factory: Factory, gauge: Gauge
) -> None:
    customer, lost, other = await lone(), await lone(), await lone()
    organization = await own_factory.organization()
    await message(own_superuser, days=20)
    await message(own_superuser, state="unmatched", days=0)
    await own_superuser.execute("DELETE FROM inbox WHERE type = 'invoice.paid'")
    await message(own_superuser, state="processed", kind="invoice.paid", days=12)
    await own_superuser.execute(
        "UPDATE billing_customers SET dirty_gen = dirty_gen + 1, next_attempt_at = now() + interval '1 day',"
        " dirty_since = now() - interval '40 days' WHERE stripe_customer_id = $1",
        customer.customer,
    )
    await own_superuser.execute(
        "UPDATE billing_customers SET dead_at = now(), dirty_gen = dirty_gen + 1 WHERE stripe_customer_id = $1",
        lost.customer,
    )
    await own_superuser.execute(
        "UPDATE billing_customers SET livemode = true, dirty_gen = dirty_gen + 1,"
        " dirty_since = now() - interval '90 days' WHERE stripe_customer_id = $1",
        other.customer,
    )  # the other mode's, which nobody will ever read
    operation = new_id()
    await own_superuser.execute(
        "INSERT INTO billing_operations (id, organization_id, kind, intent, wish, idempotency_key, status, actor,"
        " created_at, first_sent_at, next_attempt_at) VALUES ($1::uuid, $2, 'refund', 'x', '{}', $1::text, 'unknown',"
        " 'system', now(), now() - interval '5 days', now() + interval '1 day')",
        operation, organization,
    )  # fmt: skip
    stream = "INSERT INTO billing_sweeps VALUES ($1, 0, now(), $2::jsonb) ON CONFLICT (stream) DO UPDATE SET drift = $2"
    await own_superuser.execute(stream, "objects", '{"state_differs": 2}')
    await own_superuser.execute(stream, "night", '{"ledger_differs": 3, "state_differs": 1}')
    try:
        await measure(lone_workers)
        assert gauge("billing_inbox_oldest_seconds") == pytest.approx(20 * 86400, abs=60)
        assert gauge("billing_inbox_unmatched") >= 1
        assert gauge("billing_customers_dirty") >= 1
        assert gauge("billing_customers_dirty_oldest_seconds") == pytest.approx(40 * 86400, abs=60)
        assert gauge("billing_customers_dead") >= 1
        assert gauge("billing_operations_unknown_oldest_seconds") == pytest.approx(5 * 86400, abs=60)
        assert gauge("billing_payment_silence_days") == pytest.approx(12, abs=0.01)
        assert gauge("billing_drift", kind="state_differs") == 2
        assert gauge("billing_drift", kind="ledger_differs") == 3
        assert gauge("billing_drift", kind="local_only") == 0
    finally:
        await own_superuser.execute("DELETE FROM inbox WHERE external_id = subject")
        await own_superuser.execute("DELETE FROM billing_operations WHERE id = $1", operation)
        await own_superuser.execute("UPDATE billing_customers SET dead_at = NULL, next_attempt_at = now()")
        await own_superuser.execute("UPDATE billing_sweeps SET drift = '{}'")
    await customer.settled()
    await lost.settled()
    await measure(lone_workers)
    assert gauge("billing_customers_dead") == 0
    assert gauge("billing_drift", kind="state_differs") == 0
    assert gauge("billing_customers_dirty_oldest_seconds") < 60


async def test_what_could_not_be_measured_is_not_a_number(
    alone: Resources, gauge: Gauge, own_superuser: Superuser
) -> None:
    await measure(alone)
    assert gauge("billing_customers_dead") == 0
    unknown = gauge("billing_operations_unknown_oldest_seconds")
    assert unknown != unknown, "only a worker sees every organization's operations"
    await own_superuser.execute("BEGIN; LOCK TABLE billing_customers IN ACCESS EXCLUSIVE MODE")
    try:
        await pages._measure_database(alone)
    finally:
        await own_superuser.execute("ROLLBACK")
    dead = gauge("billing_customers_dead")
    assert dead != dead, "an old number would look like a new one"


def context(work: Any, resources: Resources) -> Context:
    return Context(work, resources, SYSTEM, Caller("test"))


async def eventually(customer: Any, plan: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while await customer.plan() != plan:
        assert time.monotonic() < deadline, f"still {await customer.plan()}"
        await asyncio.sleep(0.05)


async def test_a_gift_that_ends_leaves_what_is_paid_for(
    subscriber: Subscribe, resources: Resources, maintenance: Database, superuser: Superuser, factory: Factory
) -> None:
    customer, alone = await subscriber(), await subscriber()
    customer.subscribe("team")
    await customer.settled()
    ended = clock.now() - timedelta(seconds=5)
    for one in (customer, alone):
        await superuser.execute(
            "INSERT INTO billing_overrides (id, organization_id, plan, reason, created_at, created_by, ends_at)"
            " VALUES ($1, $2, 'business', 'a gift', now(), $1, $3)",
            new_id(), one.organization, ended,
        )  # fmt: skip
        await factory.plan(one.organization, source="override", valid_until=ended + timedelta(hours=1))
        assert await one.plan() == "business"
    async with maintenance.unit_of_work() as work:
        await find_what_ran_out(context(work, resources))
    await eventually(customer, "team")
    await eventually(alone, "free")


async def test_a_period_that_ends_unannounced_is_read_again(
    lone: MakeLone, alone: Resources, own_maintenance: Database, own_superuser: Superuser
) -> None:
    """The renewal's events were lost, and so was every sweep: the end of what we know sets off a reading, and one.

    Where no worker is: one looks by itself every five minutes, and its sweeps compare with Stripe; each marks, too.
    """
    customer = await lone()
    subscription = customer.subscribe("team")
    await customer.heard()
    before = await customer.settled()
    assert await customer.plan() == "team"
    await own_superuser.execute(
        "UPDATE entitlements SET valid_until = now() - interval '1 minute' WHERE organization_id = $1",
        customer.organization,
    )
    await own_superuser.execute(
        "UPDATE billing_subscriptions SET period_end = now() - interval '72 hours 1 minute' WHERE stripe_id = $1",
        subscription["id"],
    )
    async with own_maintenance.unit_of_work() as work:
        await find_what_ran_out(context(work, alone))
    async with asyncio.timeout(60):
        await consume(alone, own_maintenance, asyncio.Event(), until_empty=True)
    marked = await customer.row()
    assert marked["dirty_gen"] == before["dirty_gen"] + 1
    valid = "SELECT valid_until > now() FROM entitlements WHERE organization_id = $1"
    assert not await own_superuser.fetchval(valid, customer.organization), "only Stripe knows of the renewal"
    after = await customer.settled()
    assert after["dirty_gen"] == after["synced_gen"] == before["dirty_gen"] + 1
    assert await own_superuser.fetchval(valid, customer.organization)


async def settle_as_before_the_trigger(superuser: Superuser, name: str) -> None:
    async with superuser.transaction():
        await superuser.execute("SET LOCAL session_replication_role = replica")
        await superuser.execute("UPDATE inbox SET state = 'processed' WHERE external_id = $1", name)
        assert await superuser.fetchval("SELECT body IS NOT NULL FROM inbox WHERE external_id = $1", name)


async def test_scenario_78_bodies_go_when_settled_or_after_90_days_and_the_rest_after_400(
    workers: Resources, maintenance: Database, superuser: Superuser
) -> None:
    ages = {"young": BODY_DAYS - 1, "old": BODY_DAYS + 1, "almost": 399, "ancient": 401}
    names = {name: await message(superuser, days=days) for name, days in ages.items()}
    settled = {state: await message(superuser, state=state, days=0) for state in ("processed", "ignored")}
    before = await message(superuser, days=0)
    await settle_as_before_the_trigger(superuser, before)
    left = "SELECT count(*) FROM inbox WHERE external_id = ANY($1) AND body IS NOT NULL"
    assert await superuser.fetchval(left, list(settled.values())) == 0, "gone the moment they were settled"
    async with maintenance.unit_of_work() as work:
        await forget_bodies(context(work, workers))
    await purge_expired(workers)
    rows = await superuser.fetch(
        "SELECT external_id, body IS NOT NULL AS kept FROM inbox WHERE external_id = ANY($1)",
        [*names.values(), *settled.values(), before],
    )
    kept = {row["external_id"]: row["kept"] for row in rows}
    gone = dict.fromkeys([names["old"], names["almost"], *settled.values(), before], False)
    assert kept == {names["young"]: True} | gone
