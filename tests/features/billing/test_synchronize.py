"""The whole chain: a change at Stripe, its deliveries, the inbox, a worker, our copy; disturbed in every way.

Numbers are those of docs/scenarios.md.
"""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from infra.sandbox.stripe.server import StripeStandIn
from tests.features.billing.conftest import Subscribe
from tests.support.stripe import Subscriber


async def copy_of(customer: Subscriber, subscription: dict[str, Any]) -> dict[str, Any]:
    row = await customer.superuser.fetchrow(
        "SELECT * FROM billing_subscriptions WHERE stripe_id = $1", subscription["id"]
    )
    assert row is not None
    return {**row, "items": orjson.loads(row["items"])}


async def test_a_subscription_becomes_a_plan(subscriber: Subscribe) -> None:
    customer = await subscriber()
    customer.subscribe("team")
    await customer.settled()
    assert await customer.plan() == "team"


@pytest.mark.parametrize("knobs", [{}, {"reorder_window": 0.2}, {"duplicate": 1.0}, {"drop": 0.1, "duplicate": 0.3}])
async def test_scenario_01_an_upgrade_while_the_cycle_closes(
    subscriber: Subscribe, connected: StripeStandIn, knobs: dict[str, float]
) -> None:
    """Two dozen events within a moment, on several connections: what is last written is what Stripe holds."""
    customer = await subscriber()
    subscription = customer.subscribe("team")
    await customer.settled()
    connected.knobs = connected.knobs.model_copy(update=knobs)
    before = (await customer.row())["dirty_gen"]
    clock, [item] = connected.account.clock, subscription["items"]["data"]
    clock.advance_to(item["current_period_end"] - 1)
    customer.change_to(subscription, "business", proration_behavior="always_invoice")
    clock.advance(2 * 3600)
    row = await customer.settled()
    held = await copy_of(customer, subscription)
    item = connected.account.store.get("subscription", subscription["id"])["items"]["data"][0]
    assert held["items"][0]["lookup_key"] == "ballast_business_monthly"
    assert held["items"][0]["period_end"] == item["current_period_end"]
    assert await customer.plan() == "business"
    assert row["dirty_gen"] - before >= 10, "the burst was no burst"


async def test_scenario_02_the_same_event_again_is_a_no_op(subscriber: Subscribe, connected: StripeStandIn) -> None:
    customer = await subscriber()
    connected.knobs = connected.knobs.model_copy(update={"duplicate": 1.0, "duplicate_within": 1.0})
    customer.subscribe("team")
    row = await customer.settled()
    known = await customer.superuser.fetch("SELECT external_id FROM inbox WHERE subject = $1", customer.customer)
    assert len(known) == len({one["external_id"] for one in known}) == row["dirty_gen"]


async def test_scenario_05_events_in_any_order(subscriber: Subscribe, connected: StripeStandIn) -> None:
    """`updated` before `created`: both only say "look again"."""
    customer = await subscriber()
    connected.knobs = connected.knobs.model_copy(update={"reorder_window": 0.5})
    subscription = customer.subscribe("team")
    customer.change_to(subscription, "business")
    await customer.settled()
    assert await customer.plan() == "business"


async def test_scenario_06_what_has_ended_stays_ended(subscriber: Subscribe, connected: StripeStandIn) -> None:
    """The last `updated` arrives after `deleted`, and is delivered once more a while later."""
    customer = await subscriber()
    subscription = customer.subscribe("team")
    customer.change_to(subscription, "business")
    late = next(
        event for event in connected.account.events.newest_first() if event.type == "customer.subscription.updated"
    )
    customer.cancel(subscription)
    await customer.settled()
    assert await customer.plan() == "free"
    connected.account.courier.resend(late)
    await customer.settled()
    assert (await copy_of(customer, subscription))["status"] == "canceled"
    assert await customer.plan() == "free"


async def test_scenario_08_an_old_event_restores_nothing(subscriber: Subscribe, connected: StripeStandIn) -> None:
    """Stripe tries for three days: with a fresh signature, an event of ten changes ago arrives."""
    customer = await subscriber()
    subscription = customer.subscribe("team")
    old = next(iter(connected.account.events.newest_first()))
    for plan in ("business", "team") * 2 + ("business",):
        customer.change_to(subscription, plan)
    await customer.settled()
    connected.account.courier.resend(old)
    await customer.settled()
    assert await customer.plan() == "business"


async def test_scenario_54_an_un_cancelled_plan_goes_on(subscriber: Subscribe) -> None:
    """Nulls are written like anything else: what was cleared at Stripe is cleared here."""
    customer = await subscriber()
    subscription = customer.subscribe("team")
    customer.update(subscription, cancel_at_period_end=True)
    await customer.settled()
    assert (await copy_of(customer, subscription))["cancel_at"] is not None
    customer.update(subscription, cancel_at_period_end=False)
    await customer.settled()
    held = await copy_of(customer, subscription)
    assert (held["cancel_at"], held["cancel_at_period_end"], held["canceled_at"]) == (None, False, None)


async def test_customers_do_not_disturb_each_other(subscriber: Subscribe) -> None:
    first, second = await subscriber(), await subscriber()
    one, other = first.subscribe("team"), second.subscribe("business")
    first.cancel(one)
    await first.settled()
    await second.settled()
    assert (await first.plan(), await second.plan()) == ("free", "business")
    second.cancel(other)
    await second.settled()
    assert await second.plan() == "free"


async def test_a_number_that_changed_in_a_plan_arrives_with_the_next_reading(subscriber: Subscribe) -> None:
    """Nothing else about the customer differs: the same plan, the same period."""
    customer = await subscriber()
    subscription = customer.subscribe("team")
    await customer.settled()
    grants = "SELECT grants FROM entitlements WHERE organization_id = $1"
    now = await customer.superuser.fetchval(grants, customer.organization)
    await customer.superuser.execute(
        "UPDATE entitlements SET grants = grants || '{\"indicators\": 7}' WHERE organization_id = $1",
        customer.organization,
    )
    assert await customer.superuser.fetchval(grants, customer.organization) != now
    customer.update(subscription, metadata={"note": "something to read"})
    await customer.settled()
    assert orjson.loads(await customer.superuser.fetchval(grants, customer.organization)) == orjson.loads(now)
