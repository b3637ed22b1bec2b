"""What happens to subscriptions and money over the months, and what our copy makes of it.

Numbers are those of docs/scenarios.md.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from infra.sandbox.stripe import catalog, disputes, invoices, portal, refunds
from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.server import StripeStandIn
from infra.sandbox.stripe.store import Obj
from tests.features.billing.conftest import Subscribe
from tests.support.stripe import CHALLENGED, DECLINED, GOOD, Subscriber, price_of

DAY, HOUR = 86_400, 3_600


async def held(customer: Subscriber, subscription: Obj) -> dict[str, Any]:
    row = await customer.superuser.fetchrow(
        "SELECT * FROM billing_subscriptions WHERE stripe_id = $1", subscription["id"]
    )
    assert row is not None
    return dict(row)


async def entitlement(customer: Subscriber) -> dict[str, Any]:
    row = await customer.superuser.fetchrow(
        "SELECT * FROM entitlements WHERE organization_id = $1", customer.organization
    )
    return dict(row) if row else {}


async def ledger(customer: Subscriber, kind: str) -> list[tuple[str, int]]:
    """(status, amount) of every fact, in the order they were learned."""
    rows = await customer.superuser.fetch(
        "SELECT status, amount FROM billing_ledger WHERE organization_id = $1 AND kind = $2 ORDER BY id",
        customer.organization,
        kind,
    )
    return [(row["status"], row["amount"]) for row in rows]


def end_of(subscription: Obj) -> int:
    return int(subscription["items"]["data"][0]["current_period_end"])


async def test_scenario_38_a_first_payment_that_never_came(subscriber: Subscribe, connected: StripeStandIn) -> None:
    customer = await subscriber(card=CHALLENGED)
    subscription = customer.subscribe("team", payment_behavior="default_incomplete")
    await customer.settled()
    assert ((await held(customer, subscription))["status"], await customer.plan()) == ("incomplete", "free")
    connected.account.clock.advance(24 * HOUR)
    await customer.settled()
    assert ((await held(customer, subscription))["status"], await customer.plan()) == ("incomplete_expired", "free")


async def test_scenario_48_a_trial_that_ends_without_a_card(subscriber: Subscribe, connected: StripeStandIn) -> None:
    customer = await subscriber()
    with connected.account.lock:
        connected.account.store.get("customer", customer.customer)["invoice_settings"]["default_payment_method"] = None
    ends = {"trial_settings": {"end_behavior": {"missing_payment_method": "pause"}}}
    subscription = customer.subscribe("team", trial_period_days=14, **ends)
    await customer.settled()
    assert ((await held(customer, subscription))["status"], await customer.plan()) == ("trialing", "team")
    connected.account.clock.advance(14 * DAY + HOUR)
    await customer.settled()
    assert (await held(customer, subscription))["status"] == "paused"
    assert (await entitlement(customer))["full_until"] is not None, "an ended trial went on for nothing"


async def test_scenario_49_the_hour_in_which_a_renewal_is_a_draft(
    subscriber: Subscribe, connected: StripeStandIn
) -> None:
    """The period has rolled, nobody has paid yet, and that is nothing to be cut off for."""
    customer = await subscriber()
    subscription = customer.subscribe("team")
    await customer.settled()
    before = (await entitlement(customer))["valid_until"]
    connected.account.clock.advance_to(end_of(subscription) + 60)
    await customer.settled()
    drafts = "SELECT count(*) FROM billing_invoices WHERE organization_id = $1 AND status = 'draft'"
    assert await customer.superuser.fetchval(drafts, customer.organization) == 1
    now = await entitlement(customer)
    assert (now["plan"], now["full_until"]) == ("team", None)
    assert now["valid_until"] > before


@pytest.mark.parametrize(
    ("setting", "status", "plan", "is_limited"),
    [
        ("cancel", "canceled", "free", False),
        ("unpaid", "unpaid", "team", True),
        ("past_due", "past_due", "team", True),
    ],
)
async def test_scenario_51_when_all_attempts_have_failed(
    subscriber: Subscribe, connected: StripeStandIn, setting: str, status: str, plan: str, is_limited: bool
) -> None:
    """An account setting decides which of three ends it is, and all three arrive here."""
    connected.knobs = StripeKnobs.model_validate({"end_of_dunning": setting})
    customer = await subscriber()
    subscription = customer.subscribe("team")
    customer.use_card(DECLINED)
    with connected.account.lock:
        connected.account.store.get("subscription", subscription["id"])["default_payment_method"] = None
    connected.account.clock.advance_to(end_of(subscription) + 2 * HOUR)
    await customer.settled()
    assert (await held(customer, subscription))["status"] == "past_due"
    assert (await entitlement(customer))["full_until"] is not None
    connected.account.clock.advance(28 * DAY)
    await customer.settled()
    assert ((await held(customer, subscription))["status"], await customer.plan()) == (status, plan)
    assert ((await entitlement(customer))["full_until"] is not None) is is_limited


async def test_scenario_50_a_failed_renewal_that_recovers(subscriber: Subscribe, connected: StripeStandIn) -> None:
    customer = await subscriber()
    subscription = customer.subscribe("team")
    customer.use_card(DECLINED)
    connected.account.clock.advance_to(end_of(subscription) + 2 * HOUR)
    await customer.settled()
    assert (await entitlement(customer))["full_until"] is not None
    customer.use_card(GOOD)
    [invoice] = connected.account.store.of("invoice", customer=customer.customer, status="open")
    with connected.account.lock:
        invoices.pay(connected.account, invoice["id"])
    await customer.settled()
    now = await entitlement(customer)
    assert (now["plan"], now["full_until"]) == ("team", None)
    assert (await held(customer, subscription))["status"] == "active"


async def test_scenario_53_and_66_cancelled_and_kept_in_the_portal(
    subscriber: Subscribe, connected: StripeStandIn
) -> None:
    """Flexible billing: the portal sets `cancel_at` and leaves the flag false."""
    customer = await subscriber()
    subscription = customer.subscribe("team", billing_mode={"type": "flexible"})
    with connected.account.lock:
        portal.cancel(connected.account, subscription["id"])
    await customer.settled()
    row = await held(customer, subscription)
    assert (row["cancel_at"] is not None, row["cancel_at_period_end"]) == (True, False)
    with connected.account.lock:
        portal.keep(connected.account, subscription["id"])
    await customer.settled()
    assert (await held(customer, subscription))["cancel_at"] is None
    with connected.account.lock:
        portal.change(connected.account, subscription["id"], price_of(connected, "business"), 3)
    await customer.settled()
    assert await customer.plan() == "business"


async def test_scenario_57_what_somebody_did_in_the_dashboard(subscriber: Subscribe, connected: StripeStandIn) -> None:
    """Collection paused, a price that is not ours put first: kept as it is, and the plan found all the same."""
    customer = await subscriber()
    subscription = customer.subscribe("team")
    customer.update(subscription, pause_collection={"behavior": "void"})
    await customer.settled()
    assert (await held(customer, subscription))["pause_collection"] is not None
    customer.update(subscription, items=[{"price": _foreign_price(connected)}])
    await customer.settled()
    assert await customer.plan() == "team"


async def test_scenario_57_a_price_nobody_knows_keeps_the_plan(subscriber: Subscribe, connected: StripeStandIn) -> None:
    customer = await subscriber()
    subscription = customer.subscribe("team")
    await customer.settled()
    until = (await entitlement(customer))["valid_until"]
    item = subscription["items"]["data"][0]["id"]
    customer.update(subscription, items=[{"id": item, "price": _foreign_price(connected)}])
    await customer.settled()
    now = await entitlement(customer)
    assert (now["plan"], now["valid_until"]) == ("team", until)


async def test_scenario_58_who_pays_an_old_price_keeps_the_plan(
    subscriber: Subscribe, connected: StripeStandIn
) -> None:
    """The price is raised: its lookup key moves to the new one, and the subscribers stay on the old."""
    customer = await subscriber()
    subscription = customer.subscribe("team")
    await customer.settled()
    old = connected.account.store.get("price", price_of(connected, "team"))
    with connected.account.lock:
        old["lookup_key"] = None
        subscription["items"]["data"][0]["price"]["lookup_key"] = None
    try:
        connected.account.clock.advance_to(end_of(subscription) + 2 * HOUR)
        await customer.settled()
        now = await entitlement(customer)
        assert (now["plan"], now["full_until"]) == ("team", None)
        assert now["valid_until"].timestamp() > end_of(subscription), "the plan runs out while it is paid for"
    finally:
        with connected.account.lock:
            old["lookup_key"] = "ballast_team_monthly"


async def test_scenario_59_a_credit_is_an_invoice_below_nothing(
    subscriber: Subscribe, connected: StripeStandIn
) -> None:
    customer = await subscriber()
    subscription = customer.subscribe("business")
    connected.account.clock.advance(2 * DAY)
    customer.change_to(subscription, "team", proration_behavior="always_invoice")
    await customer.settled()
    lowest = "SELECT min(total) FROM billing_invoices WHERE organization_id = $1"
    assert await customer.superuser.fetchval(lowest, customer.organization) < 0
    assert await customer.plan() == "team"


async def test_scenario_63_two_partial_refunds_add_up_at_stripe_not_here(
    subscriber: Subscribe, connected: StripeStandIn
) -> None:
    customer = await subscriber()
    customer.subscribe("team")
    await customer.settled()
    [charge] = connected.account.store.of("charge", customer=customer.customer)
    with connected.account.lock:
        refunds.refund(connected.account, charge, 300)
        refunds.refund(connected.account, charge, 200)
    await customer.settled()
    assert await ledger(customer, "charge") == [("succeeded", 1200)]
    assert sorted(await ledger(customer, "refund")) == [("succeeded", 200), ("succeeded", 300)]


async def test_scenario_64_money_back_does_not_end_a_plan(subscriber: Subscribe, connected: StripeStandIn) -> None:
    customer = await subscriber()
    subscription = customer.subscribe("team")
    await customer.settled()
    [charge] = connected.account.store.of("charge", customer=customer.customer)
    with connected.account.lock:
        refunds.refund(connected.account, charge)
    await customer.settled()
    assert await customer.plan() == "team"
    customer.cancel(subscription)
    await customer.settled()
    assert await customer.plan() == "free"


@pytest.mark.parametrize("won", [True, False])
async def test_scenario_65_a_dispute_from_beginning_to_end(
    subscriber: Subscribe, connected: StripeStandIn, won: bool
) -> None:
    """The event of the beginning comes once more after the end: nothing reopens. The plan is not touched by either."""
    customer = await subscriber()
    customer.subscribe("team")
    await customer.settled()
    [charge] = connected.account.store.of("charge", customer=customer.customer)
    with connected.account.lock:
        dispute = disputes.open_dispute(connected.account, charge["id"])
    await _until_disputed(customer, "needs_response")
    opened = next(one for one in connected.account.events.newest_first() if one.type == "charge.dispute.created")
    with connected.account.lock:
        disputes.decide(connected.account, dispute["id"], won=won)
    await _until_disputed(customer, "won" if won else "lost")
    connected.account.courier.resend(opened)
    await customer.settled()
    facts = [status for status, _ in await ledger(customer, "dispute")]
    assert (facts[0], facts[-1]) == ("needs_response", "won" if won else "lost")
    assert await customer.plan() == "team"


def _foreign_price(connected: StripeStandIn) -> str:
    with connected.account.lock:
        given = {"currency": "eur", "unit_amount": 500, "recurring": {"interval": "month"}}
        return str(catalog.add_price(connected.account, {**given, "product_data": {"name": "Support"}})["id"])


async def _until_disputed(customer: Subscriber, status: str) -> None:
    """A dispute names no customer: whose it is has to be found out first."""
    deadline = time.monotonic() + 60
    while status not in [known for known, _ in await ledger(customer, "dispute")]:
        assert time.monotonic() < deadline, f"{status} never arrived: {await ledger(customer, 'dispute')}"
        await asyncio.sleep(0.1)
