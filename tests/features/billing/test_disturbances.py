"""Stripe slow, Stripe away, Stripe repeating itself, strangers on the account. Numbers: docs/scenarios.md."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from infra.sandbox.stripe import customers
from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.server import StripeStandIn
from service.core.context import Resources
from service.features.billing.actions.marks import tie
from service.integrations.stripe.client import DEADLINE
from tests.features.billing.conftest import Subscribe
from tests.support.factories import Factory
from tests.support.servers import RunningServer, RunningWorker
from tests.support.stripe import GOOD, Subscriber, event_body, post


async def until(statement: str, superuser: asyncpg.Connection[Any], *values: Any, seconds: float = 60) -> None:
    """Wait until the statement says true."""
    deadline = time.monotonic() + seconds
    while not await superuser.fetchval(statement, *values):
        assert time.monotonic() < deadline, f"never true: {statement} {values}"
        await asyncio.sleep(0.05)


async def test_scenario_04_two_events_for_one_change(subscriber: Subscribe, connected: StripeStandIn) -> None:
    """Stripe says that it happens: other ids, the same fact. The state does not mind, and neither does the mail."""
    connected.knobs = StripeKnobs(twin=1.0)
    customer = await subscriber()
    subscription = customer.subscribe("team")
    await customer.settled()
    customer.cancel(subscription)
    await customer.settled()
    assert await customer.plan() == "free"
    keys = "SELECT effect_key FROM billing_effects WHERE organization_id = $1 AND kind = 'ended'"
    assert len(await customer.superuser.fetch(keys, customer.organization)) == 1


async def test_scenario_07_the_same_second(subscriber: Subscribe, connected: StripeStandIn) -> None:
    """Six changes within one second of Stripe's clock, in any order: `created` decides nothing here."""
    connected.knobs = StripeKnobs(reorder_window=0.3)
    customer = await subscriber()
    subscription = customer.subscribe("team")
    for plan in ("business", "team", "business", "team", "business"):
        customer.change_to(subscription, plan)
    await customer.settled()
    assert await customer.plan() == "business"


async def test_scenario_10_a_backlog_is_acknowledged_and_then_worked_off(
    subscriber: Subscribe, connected: StripeStandIn, server: RunningServer
) -> None:
    """The endpoint was down for hours: hundreds of deliveries at once, every one acknowledged, few readings."""
    customer = await subscriber()
    customer.subscribe("business")
    await customer.settled()
    before = (await customer.row())["sync_version"]
    thing = {"id": "in_1", "object": "invoice", "customer": customer.customer}
    answers = []
    for _ in range(10):
        burst = (post(server.url, event_body("invoice.updated", thing)) for _ in range(30))
        answers += await asyncio.gather(*burst)
    assert {answer.status_code for answer in answers} == {200}
    row = await customer.settled(30)
    assert row["sync_version"] - before < 100, "a reading for every event would take Stripe's whole allowance"
    assert await customer.plan() == "business"


async def test_scenario_14_an_acknowledgement_lost_on_the_wire(subscriber: Subscribe, connected: StripeStandIn) -> None:
    """Stripe stops waiting before our 200 arrives, and sends it again: one row."""
    customer = await subscriber()
    connected.knobs = StripeKnobs(receiver_timeout=0.001)
    customer.subscribe("team")
    gone = time.monotonic() + 60
    while not any(one.deliveries[0].attempts for one in connected.account.events.newest_first() if one.deliveries):
        assert time.monotonic() < gone
        await asyncio.sleep(0.005)
    connected.knobs = StripeKnobs()
    await customer.settled(30)
    doubled = "SELECT count(*) FROM inbox WHERE subject = $1 GROUP BY external_id HAVING count(*) > 1"
    assert await customer.superuser.fetch(doubled, customer.customer) == []
    assert await customer.plan() == "team"


async def test_scenario_23_and_29_a_customer_that_is_tied_later(
    connected: StripeStandIn,
    worker: RunningWorker,
    resources: Resources,
    superuser: asyncpg.Connection[Any],
    factory: Factory,
) -> None:
    """Another product's customer is left alone; when it turns out to be ours, what had waited is not lost."""
    with connected.account.lock:
        stranger = customers.add(connected.account, {})
    customer = Subscriber(connected, superuser, await factory.organization(), stranger["id"])
    customer.use_card(GOOD)
    customer.subscribe("team")
    waiting = "SELECT count(*) >= 5 FROM inbox WHERE subject = $1 AND state = 'unmatched' AND attempts > 0"
    await until(waiting, superuser, stranger["id"])
    assert await customer.plan() == "free"
    async with resources.database.unit_of_work(tenant=customer.organization) as work:
        assert await tie(work, customer.organization, stranger["id"], livemode=False) is not None
    await customer.settled()
    assert await customer.plan() == "team"
    left = "SELECT count(*) FROM inbox WHERE subject = $1 AND state <> 'processed'"
    assert await superuser.fetchval(left, stranger["id"]) == 0


async def test_scenario_30_metadata_proposes_and_never_moves(
    subscriber: Subscribe, connected: StripeStandIn, factory: Factory
) -> None:
    """Somebody edits the customer's metadata to another organization: the tie is ours and stays."""
    customer = await subscriber()
    customer.subscribe("team")
    await customer.settled()
    victim = await factory.organization()
    with connected.account.lock:
        customers.update(connected.account, {"metadata": {"organization_id": str(victim)}}, customer.customer)
    await customer.settled()
    tied = "SELECT organization_id FROM billing_customers WHERE stripe_customer_id = $1"
    assert await customer.superuser.fetchval(tied, customer.customer) == customer.organization
    theirs = "SELECT count(*) FROM entitlements WHERE organization_id = $1"
    assert await customer.superuser.fetchval(theirs, victim) == 0


async def test_scenario_73_stripe_hangs_and_deliveries_are_acknowledged(
    subscriber: Subscribe, connected: StripeStandIn, server: RunningServer
) -> None:
    customer = await subscriber()
    customer.subscribe("team")
    await customer.settled()
    connected.knobs = StripeKnobs(api_latency_min=60, api_latency_max=60)
    thing = {"id": "in_1", "object": "invoice", "customer": customer.customer}
    took = []
    for _ in range(20):
        began = time.monotonic()
        assert (await post(server.url, event_body("invoice.updated", thing))).status_code == 200
        took.append(time.monotonic() - began)
    assert max(took) < DEADLINE - 1, f"an acknowledgement waited for Stripe: {took}"
    connected.knobs = StripeKnobs()
    await customer.settled(40)


async def test_scenario_73_an_outage_is_sat_out(subscriber: Subscribe, connected: StripeStandIn) -> None:
    customer = await subscriber()
    connected.knobs = StripeKnobs(api_error_before=1.0)
    customer.subscribe("team")
    failing = "SELECT last_error IS NOT NULL FROM billing_customers WHERE stripe_customer_id = $1"
    await until(failing, customer.superuser, customer.customer)
    row = await customer.row()
    assert (row["failures"], row["dead_at"]) == (0, None), "Stripe's fault was counted as this customer's"
    connected.knobs = StripeKnobs()
    await customer.settled(60)
    assert await customer.plan() == "team"


async def test_scenario_79_no_log_line_quotes_a_message(
    server: RunningServer, worker: RunningWorker, capfd: pytest.CaptureFixture[str]
) -> None:
    canary = f"canary{uuid4().hex}"
    person = {"id": f"cus_{uuid4().hex}", "object": "customer", "email": f"{canary}@example.com", "name": canary}
    assert (await post(server.url, event_body("customer.updated", person))).status_code == 200
    assert (await post(server.url, event_body("customer.updated", person), {})).status_code == 400
    await asyncio.sleep(1.5)  # the resolver looks at it once
    captured = capfd.readouterr()
    assert "/webhooks/stripe" in captured.out
    assert canary not in captured.out + captured.err
