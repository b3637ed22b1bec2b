"""What nobody told us of: found by reading Stripe's list of events, and by comparing the objects themselves."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, TypeAlias

import asyncpg
import pytest

from infra.sandbox.stripe import customers, refunds
from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.server import StripeStandIn
from infra.sandbox.stripe.store import Obj
from service.core import clock
from service.core.context import Resources
from service.core.database import Database
from service.core.ids import new_id
from service.features.billing.flows.bulk import read_in_bulk
from service.features.billing.flows.events import read_events
from service.features.billing.flows.reconcile import Found, compare_objects
from service.features.billing.flows.sweeps import sweep_when_due
from tests.features.billing.lone import Lone, MakeLone
from tests.support.factories import Factory
from tests.support.stripe import Subscriber

pytest_plugins = ("tests.guardrails.durability", "tests.features.billing.alone")
Superuser: TypeAlias = "asyncpg.Connection[Any]"
NEVER_MADE = {"suppress": 1.0}


def a_minute_ago() -> int:
    return int(clock.now().timestamp()) - 60


async def team(lone: MakeLone) -> tuple[Lone, Obj]:
    """A customer of the team plan, of whom our copy knows everything."""
    customer = await lone()
    subscription = customer.subscribe("team")
    await customer.heard()
    await customer.settled()
    assert await customer.plan() == "team"
    return customer, subscription


@pytest.fixture
def compare(alone: Resources, own_maintenance: Database) -> Any:
    async def now(settle: float = 0.0, **how: bool) -> Found:
        return await compare_objects(alone, own_maintenance, settle=settle, **how)

    return now


async def test_scenario_11_events_that_were_never_delivered_are_read_from_the_list_once(
    lone: MakeLone, own_stripe: StripeStandIn, alone: Resources, own_superuser: Superuser
) -> None:
    customer = await lone()
    customer.subscribe("team")
    for number in range(120):  # more than a page of them
        with own_stripe.account.lock:
            customers.update(own_stripe.account, {"description": f"{number}"}, customer.customer)
    assert await customer.plan() == "free"

    began = a_minute_ago()
    cursor = await read_events(alone, began)
    assert cursor >= began + 50
    await customer.settled()
    assert await customer.plan() == "team"
    kept = "SELECT count(*), count(DISTINCT external_id), min(facts ->> 'via') FROM inbox WHERE subject = $1"
    first = await own_superuser.fetchrow(kept, customer.customer)
    assert first is not None
    assert first[0] > 120
    await read_events(alone, cursor)
    again = await own_superuser.fetchrow(kept, customer.customer)
    assert again == first


async def test_scenario_11_a_reading_that_broke_off_begins_again_where_it_began(
    lone: MakeLone, own_stripe: StripeStandIn, alone: Resources, own_maintenance: Database, own_superuser: Superuser
) -> None:
    await lone()
    await own_superuser.execute(
        "INSERT INTO billing_sweeps (stream, cursor, ran_at, drift) VALUES ('events', 1234567, now(), '{}')"
        " ON CONFLICT (stream) DO UPDATE SET ran_at = now(), cursor = 1234567"
    )
    assert not await sweep_when_due(alone, own_maintenance, "events"), "it ran just now"
    await own_superuser.execute(
        "UPDATE billing_sweeps SET ran_at = now() - interval '6 minutes' WHERE stream = 'events'"
    )
    own_stripe.knobs = StripeKnobs(api_error_before=1)
    assert not await sweep_when_due(alone, own_maintenance, "events")
    row = await own_superuser.fetchrow(
        "SELECT cursor, now() - ran_at AS ago FROM billing_sweeps WHERE stream = 'events'"
    )
    assert row is not None
    assert row["cursor"] == 1234567
    assert timedelta(minutes=3, seconds=50) < row["ago"] < timedelta(minutes=4, seconds=30), "again in a minute"
    own_stripe.knobs = StripeKnobs()
    await own_superuser.execute("UPDATE billing_sweeps SET ran_at = 'epoch' WHERE stream = 'events'")
    assert await sweep_when_due(alone, own_maintenance, "events")
    done = "SELECT cursor > 1234567 AND drift = '{}' AND ran_at > now() - interval '20 s' FROM billing_sweeps"
    assert await own_superuser.fetchval(f"{done} WHERE stream = 'events'")


async def test_two_workers_do_not_sweep_at_once(
    lone: MakeLone, own_stripe: StripeStandIn, alone: Resources, own_maintenance: Database, own_superuser: Superuser
) -> None:
    await lone()
    await own_superuser.execute(
        "INSERT INTO billing_sweeps (stream, cursor, ran_at, drift) VALUES ('events', 0, 'epoch', '{}')"
        " ON CONFLICT (stream) DO UPDATE SET ran_at = 'epoch', cursor = $1",
        a_minute_ago(),
    )
    own_stripe.knobs = StripeKnobs(api_latency_min=0.3, api_latency_max=0.3)
    both = await asyncio.gather(*(sweep_when_due(alone, own_maintenance, "events") for _ in range(2)))
    assert sorted(both) == [False, True]


@pytest.mark.parametrize("verb", ["upgrade", "cancel"])
async def test_scenario_12_a_change_without_an_event_is_found_and_read(
    lone: MakeLone, own_stripe: StripeStandIn, compare: Any, verb: str
) -> None:
    customer, subscription = await team(lone)
    own_stripe.knobs = StripeKnobs(**NEVER_MADE)
    _ = customer.change_to(subscription, "business") if verb == "upgrade" else customer.cancel(subscription)
    own_stripe.knobs = StripeKnobs()
    found = await compare()
    assert subscription["id"] in found["state_differs"]
    await customer.settled()
    assert await customer.plan() == {"upgrade": "business", "cancel": "free"}[verb]
    assert subscription["id"] not in (await compare(full=True)).get("state_differs", [])


async def test_what_is_on_its_way_is_not_drift(lone: MakeLone, compare: Any) -> None:
    customer, subscription = await team(lone)
    customer.change_to(subscription, "business")
    comparing = asyncio.create_task(compare(settle=4))
    await asyncio.sleep(0.75)
    await customer.heard()
    assert subscription["id"] not in (await comparing).get("state_differs", [])
    await customer.settled()
    assert await customer.plan() == "business"


async def test_what_was_read_after_the_page_is_not_compared_with_it(
    lone: MakeLone, own_stripe: StripeStandIn, compare: Any, own_superuser: Superuser
) -> None:
    customer, subscription = await team(lone)
    own_stripe.knobs = StripeKnobs(**NEVER_MADE)
    customer.change_to(subscription, "business")
    await own_superuser.execute(
        "UPDATE billing_customers SET last_synced_at = now() + interval '1 hour' WHERE stripe_customer_id = $1",
        customer.customer,
    )
    assert subscription["id"] not in (await compare(full=True)).get("state_differs", [])


async def test_rows_that_only_one_side_has_are_found_at_night(
    lone: MakeLone, own_stripe: StripeStandIn, compare: Any, own_superuser: Superuser
) -> None:
    customer, subscription = await team(lone)
    other, vanished = await team(lone)
    await own_superuser.execute("DELETE FROM billing_subscriptions WHERE stripe_id = $1", subscription["id"])
    with own_stripe.account.lock:
        own_stripe.account.store.remove(vanished)
    found = await compare(full=True)
    assert subscription["id"] in found["stripe_only"]
    assert vanished["id"] in found["local_only"]
    await customer.settled()
    await other.settled()
    again = await compare(full=True)
    assert subscription["id"] not in again.get("stripe_only", [])
    assert vanished["id"] in again["local_only"], "only a person can say what that was"


async def test_money_that_differs_is_found_at_night_and_read_again(
    lone: MakeLone, own_stripe: StripeStandIn, compare: Any, own_superuser: Superuser
) -> None:
    customer, subscription = await team(lone)
    invoice, of_mine = subscription["latest_invoice"], "WHERE customer_id = $1"
    mine = (await customer.row())["id"]
    charge = await own_superuser.fetchval(f"SELECT stripe_id FROM billing_ledger {of_mine} AND kind = 'charge'", mine)
    await own_superuser.execute(f"UPDATE billing_invoices SET amount_paid = 0 {of_mine}", mine)
    found = await compare(full=True)
    assert invoice in found["state_differs"]
    assert charge not in found.get("ledger_differs", [])
    await customer.settled()

    own_stripe.knobs = StripeKnobs(**NEVER_MADE)
    with own_stripe.account.lock:
        for amount in (100, 250):
            refunds.add(own_stripe.account, {"charge": charge, "amount": str(amount)})
    own_stripe.knobs = StripeKnobs()
    assert charge in (await compare(full=True))["ledger_differs"]
    await customer.settled()
    again = await compare(full=True)
    assert charge not in again.get("ledger_differs", [])
    assert invoice not in again.get("state_differs", [])
    refunded = f"SELECT sum(amount) FROM billing_ledger {of_mine} AND kind = 'refund'"
    assert await own_superuser.fetchval(refunded, mine) == 350


async def test_contradictions_of_our_own_are_counted_by_kind(
    lone: MakeLone, compare: Any, own_superuser: Superuser, own_factory: Factory
) -> None:
    twice, one = await team(lone)
    two = twice.subscribe("business")
    await twice.heard()
    await twice.settled()
    paid, subscription = await team(lone)
    await own_superuser.execute("DELETE FROM entitlements WHERE organization_id = $1", paid.organization)
    gift = await own_factory.organization()
    await own_factory.plan(gift)
    operation = new_id()
    await own_superuser.execute(
        "INSERT INTO billing_operations (id, organization_id, kind, intent, wish, idempotency_key, status, actor,"
        " created_at, first_sent_at, next_attempt_at) VALUES ($1::uuid, $2, 'cancel', 'x', '{}', $1::text, 'unknown',"
        " 'system', now(), now() - interval '2 hours', now() + interval '1 day')",
        operation, gift,
    )  # fmt: skip
    found = await compare()
    assert min(one["id"], two["id"]) in found["several_live"]
    assert subscription["id"] in found["paid_without_entitlement"]
    assert str(gift) in found["entitlement_without_cause"]
    assert str(operation) in found["operation_unknown"]
    await paid.settled()
    assert await paid.plan() == "team", "what was paid for is back"
    await own_superuser.execute("DELETE FROM billing_operations WHERE id = $1", operation)
    again = await compare()
    assert subscription["id"] not in again.get("paid_without_entitlement", [])
    assert str(operation) not in again.get("operation_unknown", [])


async def test_scenario_32_who_pays_without_an_organization_is_listed(
    lone: MakeLone, own_stripe: StripeStandIn, compare: Any, own_superuser: Superuser
) -> None:
    orphan, subscription = await team(lone)
    await own_superuser.execute(
        "UPDATE organizations SET deleted_at = now() - interval '2 hours' WHERE id = $1", orphan.organization
    )
    with own_stripe.account.lock:
        stranger = customers.add(own_stripe.account, {"name": "Nobody we know"})
    unknown = Subscriber(own_stripe, own_superuser, new_id(), stranger["id"])
    unknown.use_card("pm_card_visa")
    theirs = unknown.subscribe("team")
    listed = (await compare())["customer_without_organization"]
    assert {subscription["id"], theirs["id"]} <= set(listed)
    unknown.cancel(theirs)
    assert theirs["id"] not in (await compare()).get("customer_without_organization", [])


async def test_scenario_77_a_restored_backup_is_compared_as_a_whole(
    lone: MakeLone, own_stripe: StripeStandIn, alone: Resources, compare: Any, own_superuser: Superuser
) -> None:
    customer, subscription = await team(lone)
    tables = ("billing_subscriptions", "billing_invoices", "entitlements")
    yesterday = {
        table: await own_superuser.fetch(f"SELECT * FROM {table} WHERE organization_id = $1", customer.organization)
        for table in tables
    }
    row = await customer.row()
    customer.change_to(subscription, "business")
    await customer.heard()
    await customer.settled()
    assert await customer.plan() == "business"

    for table, rows in yesterday.items():
        await own_superuser.execute(f"DELETE FROM {table} WHERE organization_id = $1", customer.organization)
        names = list(rows[0].keys())
        marks = ", ".join(f"${n + 1}" for n in range(len(names)))
        for one in rows:
            await own_superuser.execute(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", *one.values())
    await own_superuser.execute("DELETE FROM inbox WHERE subject = $1", customer.customer)
    await own_superuser.execute(
        "UPDATE billing_customers SET sync_version = $2, dirty_gen = $3, synced_gen = $3 WHERE id = $1",
        row["id"], row["sync_version"], row["dirty_gen"],
    )  # fmt: skip
    assert await customer.plan() == "team", "yesterday's plan"

    await own_superuser.execute(
        "INSERT INTO billing_sweeps (stream, cursor, ran_at, drift) VALUES ('night', 0, now(), '{}')"
        " ON CONFLICT (stream) DO UPDATE SET ran_at = now()"
    )
    ran = "SELECT ran_at > now() - interval '5 minutes' FROM billing_sweeps WHERE stream = 'night'"
    with own_stripe.account.lock:
        own_stripe.account.events = type(own_stripe.account.events)()  # older than the list goes back
    await read_events(alone, a_minute_ago())
    assert await own_superuser.fetchval(ran), "a cursor of a minute ago is no reason to compare everything"
    await read_events(alone, a_minute_ago() - 2 * 3600)
    assert not await own_superuser.fetchval(ran), "the cursor is yesterday's: everything is compared"
    assert subscription["id"] in (await compare(full=True))["state_differs"]
    await customer.settled()
    assert await customer.plan() == "business"


async def wait_unread(customer: Subscriber) -> None:
    """As in a long queue: marked, and its turn is far away."""
    await customer.superuser.execute(
        "UPDATE billing_customers SET dirty_gen = dirty_gen + 1, dirty_since = now(),"
        " next_attempt_at = now() + interval '1 hour' WHERE stripe_customer_id = $1",
        customer.customer,
    )


async def test_in_a_long_queue_plans_come_first_a_hundred_to_a_call(
    lone: MakeLone, own_stripe: StripeStandIn, alone: Resources, own_superuser: Superuser
) -> None:
    some = [await team(lone) for _ in range(3)]
    own_stripe.knobs = StripeKnobs(**NEVER_MADE)
    for customer, subscription in some:
        customer.change_to(subscription, "business")
        await wait_unread(customer)
    assert await read_in_bulk(alone, many=1_000_000) == 0
    assert await read_in_bulk(alone, many=2) >= 3
    for customer, _ in some:
        assert await customer.plan() == "business"
        row = await customer.row()
        assert row["dirty_gen"] > row["synced_gen"], "the rest is still to be read"
    assert await read_in_bulk(alone, many=0) == 0, "once is enough"
    await own_superuser.execute("UPDATE billing_customers SET next_attempt_at = now() WHERE dirty_gen > synced_gen")
    for customer, _ in some:
        await customer.settled()


async def test_a_page_loses_against_what_was_written_while_it_was_read(
    lone: MakeLone, own_stripe: StripeStandIn, alone: Resources, own_superuser: Superuser
) -> None:
    customer, subscription = await team(lone)
    own_stripe.knobs = StripeKnobs(suppress=1, api_latency_min=60, api_latency_max=60)
    customer.change_to(subscription, "business")
    await wait_unread(customer)
    reading = asyncio.create_task(read_in_bulk(alone, many=0))
    await asyncio.sleep(1.5)  # its call is held until a knob is turned
    await own_superuser.execute(
        "UPDATE billing_customers SET sync_version = sync_version + 1 WHERE stripe_customer_id = $1", customer.customer
    )
    own_stripe.knobs = StripeKnobs(suppress=1)
    await reading
    assert await customer.plan() == "team", "the page is older than what somebody else has written"
    await own_superuser.execute("UPDATE billing_customers SET next_attempt_at = now() WHERE dirty_gen > synced_gen")
    own_stripe.knobs = StripeKnobs()
    await customer.settled()
    assert await customer.plan() == "business"
