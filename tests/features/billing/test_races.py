"""Two workers at once, step by step, on a real database: who may write, and what happens when a part is taken away.

The steps are driven by hand, so that each story happens in exactly the order it tells.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from infra.sandbox.stripe import disputes, refunds
from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.server import StripeStandIn
from service.core import clock
from service.core.context import Resources
from service.core.database import UnitOfWork
from service.core.ids import new_id
from service.features.billing.flows import apply, claim, synchronize
from service.features.billing.flows.claim import Claim
from service.features.billing.flows.snapshot import Snapshot, fetch_snapshot
from service.features.billing.flows.synchronize import mark, synchronize_now
from service.features.billing.models import INBOX
from service.guardrails.inbox import Message
from service.integrations.stripe import readings
from service.integrations.stripe.client import StripeApi
from tests.support.factories import Factory
from tests.support.stripe import Subscriber, make_subscriber

pytest_plugins = ("tests.guardrails.durability", "tests.features.billing.alone")


class Steps:
    """One worker's steps, one at a time."""

    def __init__(self, resources: Resources, customer: Subscriber) -> None:
        self.resources, self.customer = resources, customer

    async def mark(self) -> None:
        async with self.resources.database.unit_of_work() as work:
            await mark(work, (await self.customer.row())["id"])

    async def claim(self) -> Claim:
        async with self.resources.database.connection() as connection:
            only = (await self.customer.row())["id"]
            [held] = await claim.claim(UnitOfWork(connection).raw, 1, livemode=False, only=only)
            return held

    async def fetch(self, held: Claim) -> Snapshot:
        return await fetch_snapshot(self.resources.get(StripeApi), held.stripe_customer_id, None)

    async def apply(self, held: Claim, snapshot: Snapshot) -> bool:
        async with self.resources.database.unit_of_work(tenant=held.organization_id) as work:
            return await apply.apply_snapshot(self.resources, work, held, snapshot)

    async def synchronize(self) -> bool:
        held = await self.claim()
        return await self.apply(held, await self.fetch(held))

    async def lose_lease(self) -> None:
        """What 30 seconds of standing still do."""
        await self.customer.superuser.execute(
            "UPDATE billing_customers SET lease_until = now() - interval '1 second' WHERE stripe_customer_id = $1",
            self.customer.customer,
        )


@pytest.fixture
async def steps(
    own_stripe: StripeStandIn, alone: Resources, own_superuser: asyncpg.Connection[Any], own_factory: Factory
) -> Steps:
    customer = await make_subscriber(own_stripe, own_superuser, await own_factory.organization())
    await own_superuser.execute(
        "UPDATE billing_customers SET dirty_gen = 1 WHERE stripe_customer_id = $1", customer.customer
    )
    return Steps(alone, customer)


async def overtaken_writer(steps: Steps) -> bool:
    """A reads, stands still until its lease is gone; the customer upgrades; B reads and writes; A wakes up and writes.

    Whether A's writing was taken.
    """
    subscription = steps.customer.subscribe("team")
    held = await steps.claim()
    old = await steps.fetch(held)
    await steps.lose_lease()
    steps.customer.change_to(subscription, "business")
    assert await steps.synchronize()
    assert await steps.customer.plan() == "business"
    return await steps.apply(held, old)


async def test_scenario_70_a_worker_that_stood_still_writes_nothing(steps: Steps) -> None:
    before = await steps.customer.superuser.fetchval("SELECT count(*) FROM entitlement_history")
    assert await overtaken_writer(steps) is False
    assert await steps.customer.plan() == "business"
    after = await steps.customer.superuser.fetchval("SELECT count(*) FROM entitlement_history")
    assert after - before == 1
    assert (await steps.customer.row())["sync_version"] == 1


async def test_scenario_01_without_the_compare_and_set_the_upgrade_is_lost(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease alone is no fence: this is the incident."""
    loose = apply.COMPARE_AND_SET.replace("AND sync_version = $2", "AND $2::bigint IS NOT NULL")
    assert loose != apply.COMPARE_AND_SET
    monkeypatch.setattr(apply, "COMPARE_AND_SET", loose)
    assert await overtaken_writer(steps) is True
    assert await steps.customer.plan() == "team"


async def test_scenario_31_two_customers_of_one_organization_are_written_one_after_the_other(steps: Steps) -> None:
    """The first was deleted at Stripe while the second paid: its reading ended the plan that had just been bought."""
    first = steps.customer
    team = first.subscribe("team")
    assert await steps.synchronize()
    await first.superuser.execute(
        "UPDATE billing_customers SET deleted_at = now(), dirty_gen = dirty_gen + 1 WHERE stripe_customer_id = $1",
        first.customer,
    )
    second = await make_subscriber(first.stand_in, first.superuser, first.organization)
    others = Steps(steps.resources, second)
    await others.mark()
    first.cancel(team)
    second.subscribe("business")
    held, held_too = await steps.claim(), await others.claim()
    ended, paid = await steps.fetch(held), await others.fetch(held_too)
    async with steps.resources.database.unit_of_work(tenant=first.organization) as work:
        assert await apply.apply_snapshot(steps.resources, work, held_too, paid)
        await work.session.flush()
        at_once = asyncio.create_task(steps.apply(held, ended))
        _, waiting = await asyncio.wait([at_once], timeout=0.5)
        assert waiting
    assert await at_once
    assert await first.plan() == "business"


async def test_scenario_69_a_worker_that_died_leaves_its_customer_to_the_next(steps: Steps) -> None:
    steps.customer.subscribe("team")
    await steps.claim()  # and dies here
    async with steps.resources.database.connection() as connection:
        only = (await steps.customer.row())["id"]
        assert await claim.claim(UnitOfWork(connection).raw, 1, livemode=False, only=only) == []
    await steps.lose_lease()
    assert await steps.synchronize()
    assert await steps.customer.plan() == "team"


async def test_what_comes_during_the_reading_is_read_again(steps: Steps) -> None:
    """The mark that arrives between reading and writing must not be taken as read."""
    subscription = steps.customer.subscribe("team")
    held = await steps.claim()
    seen = await steps.fetch(held)
    steps.customer.change_to(subscription, "business")
    await steps.mark()
    assert await steps.apply(held, seen)
    row = await steps.customer.row()
    assert row["dirty_gen"] > row["synced_gen"], "the upgrade would never be read"
    assert await steps.synchronize()
    assert await steps.customer.plan() == "business"


async def test_without_the_dirty_mark_a_change_during_the_reading_stays_unseen(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flag "dirty: yes or no", cleared by the writer, forgets what was marked meanwhile."""
    loose = apply.COMPARE_AND_SET.replace("synced_gen = $3,", "synced_gen = greatest(dirty_gen, $3),")
    assert loose != apply.COMPARE_AND_SET
    monkeypatch.setattr(apply, "COMPARE_AND_SET", loose)
    subscription = steps.customer.subscribe("team")
    held = await steps.claim()
    seen = await steps.fetch(held)
    steps.customer.change_to(subscription, "business")
    await steps.mark()
    assert await steps.apply(held, seen)
    row = await steps.customer.row()
    assert row["dirty_gen"] == row["synced_gen"]
    assert await steps.customer.plan() == "team"


async def test_scenario_54_without_writing_nulls_a_cancellation_sticks(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ "Not in the update" is not "unchanged": the customer who took it back would be cut off at midnight."""
    subscription = steps.customer.subscribe("team")
    steps.customer.update(subscription, cancel_at_period_end=True)
    assert await steps.synchronize()
    steps.customer.update(subscription, cancel_at_period_end=False)
    await steps.mark()
    whole = readings.subscription_columns
    with monkeypatch.context() as patched:
        patched.setattr(
            apply, "subscription_columns", lambda thing: {k: v for k, v in whole(thing).items() if v is not None}
        )
        assert await steps.synchronize()
    cancel_at = "SELECT cancel_at FROM billing_subscriptions WHERE stripe_id = $1"
    assert await steps.customer.superuser.fetchval(cancel_at, subscription["id"]) is not None
    await steps.mark()
    assert await steps.synchronize()
    assert await steps.customer.superuser.fetchval(cancel_at, subscription["id"]) is None


async def test_scenario_06_a_reading_older_than_its_own_message_is_not_written(steps: Steps) -> None:
    """Stripe's replica lags: the message says that the subscription ended, the reading says that it lives."""
    subscription = steps.customer.subscribe("team")
    held = await steps.claim()
    late = await steps.fetch(held)
    told = Claim(**{**_fields(held), "ended": frozenset({subscription["id"]})})
    with pytest.raises(apply.StaleReading):
        await steps.apply(told, late)
    assert await steps.customer.plan() == "free"
    assert (await steps.customer.row())["sync_version"] == 0


async def test_applying_the_same_reading_twice_changes_nothing_more(steps: Steps) -> None:
    steps.customer.subscribe("team")
    assert await steps.synchronize()
    columns = "SELECT digest FROM billing_subscriptions ORDER BY stripe_id"
    before = await steps.customer.superuser.fetch(columns)
    facts = await steps.customer.superuser.fetchval("SELECT count(*) FROM billing_ledger")
    await steps.mark()
    assert await steps.synchronize()
    assert await steps.customer.superuser.fetch(columns) == before
    assert await steps.customer.superuser.fetchval("SELECT count(*) FROM billing_ledger") == facts


async def test_scenario_65_a_dispute_that_goes_back_to_an_earlier_status_is_seen_there(steps: Steps) -> None:
    """More evidence was asked for: by the books it was still under review, and the deadline passed."""
    steps.customer.subscribe("team")
    [held] = steps.customer.stand_in.account.store.of("charge", customer=steps.customer.customer)
    with steps.customer.stand_in.account.lock:
        dispute = disputes.open_dispute(steps.customer.stand_in.account, held["id"])
    for status in ("needs_response", "under_review", "needs_response", "needs_response"):
        with steps.customer.stand_in.account.lock:
            dispute["status"] = status
        await steps.mark()
        assert await steps.synchronize()
    found = await steps.customer.superuser.fetch(
        "SELECT status FROM billing_ledger WHERE stripe_id = $1 ORDER BY id", dispute["id"]
    )
    assert [row["status"] for row in found] == ["needs_response", "under_review", "needs_response"]


async def test_every_refund_of_a_charge_is_on_the_books(steps: Steps) -> None:
    """A charge shows its ten newest refunds; those before them were missing in the sums."""
    steps.customer.subscribe("team")
    [charge] = steps.customer.stand_in.account.store.of("charge", customer=steps.customer.customer)
    with steps.customer.stand_in.account.lock:
        for _ in range(12):
            refunds.add(steps.customer.stand_in.account, {"charge": charge["id"], "amount": 10})
    assert await steps.synchronize()
    found = "SELECT count(*), sum(amount) FROM billing_ledger WHERE kind = 'refund' AND about = $1"
    assert tuple(await steps.customer.superuser.fetchrow(found, charge["id"]) or ()) == (12, 120)


async def test_scenario_68_failures_wait_longer_and_end_as_a_dead_letter(steps: Steps) -> None:
    held = await steps.claim()
    for attempt in range(1, claim.ATTEMPTS + 1):
        async with steps.resources.database.connection() as connection:
            raw = UnitOfWork(connection).raw
            dead = await claim.give_back(raw, held, "a mapping fault")
            assert dead is (attempt == claim.ATTEMPTS)
            if not dead:
                held = await steps.claim()
    async with steps.resources.database.connection() as connection:
        claimed = await claim.claim(UnitOfWork(connection).raw, 1_000, livemode=False)
        assert held.id not in [one.id for one in claimed]
    steps.customer.subscribe("team")
    assert await synchronize_now(steps.resources, held.id), "somebody has just paid, and waits"
    assert await steps.customer.plan() == "team"


async def test_a_customer_who_takes_too_long_to_read_rests_and_is_not_given_up(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tried again at once for ever, it kept one of six places busy, and the others waited."""
    monkeypatch.setattr(synchronize, "LEASE_SECONDS", 5.2)
    steps.customer.stand_in.knobs = StripeKnobs(api_latency_min=0.5, api_latency_max=0.5)
    assert not await synchronize.synchronize(steps.resources, await steps.claim())
    steps.customer.stand_in.knobs = StripeKnobs()
    row = await steps.customer.row()
    assert (row["failures"], row["last_error"]) == (0, "TimeoutError")
    assert row["next_attempt_at"] > clock.now() + timedelta(seconds=90)


async def test_scenario_73_stripe_being_away_is_no_attempt(steps: Steps) -> None:
    """An hour of somebody else's outage must not make dead letters of everybody."""
    held = await steps.claim()
    for _ in range(claim.ATTEMPTS + 5):
        async with steps.resources.database.connection() as connection:
            assert not await claim.give_back(
                UnitOfWork(connection).raw, held, "Stripe is away", wait=timedelta(seconds=1)
            )
        held = await steps.claim()
    assert (await steps.customer.row())["failures"] == 0


def _fields(held: Claim) -> dict[str, Any]:
    return {name: getattr(held, name) for name in Claim.__dataclass_fields__}


async def test_without_the_dedupe_every_delivery_counts(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    """The unique key has the last word, and the look before it keeps the log quiet: without both, twice is twice."""
    superuser, name = steps.customer.superuser, "uq_inbox_source_realm_external_id"
    message = Message("test", f"evt_{new_id().hex}", "customer.updated", steps.customer.customer, b"{}")

    async def deliver_twice() -> int:
        async with steps.resources.database.connection() as connection:
            return sum([await INBOX.receive(UnitOfWork(connection).raw, message) for _ in range(2)])

    before = (await steps.customer.row())["dirty_gen"]
    assert await deliver_twice() == 1
    assert (await steps.customer.row())["dirty_gen"] == before + 1
    loose = INBOX.sql.replace("SELECT FROM inbox WHERE", "SELECT FROM inbox WHERE false AND")
    assert loose != INBOX.sql
    with monkeypatch.context() as patched:
        patched.setattr(INBOX, "sql", loose)
        assert await deliver_twice() == 0, "the key alone does not hold"
        await superuser.execute(f"ALTER TABLE inbox DROP CONSTRAINT {name}")
        try:
            assert await deliver_twice() == 2
        finally:
            await superuser.execute("DELETE FROM inbox WHERE external_id = $1", message.external_id)
            await superuser.execute(f"ALTER TABLE inbox ADD CONSTRAINT {name} UNIQUE (source, realm, external_id)")
    assert (await steps.customer.row())["dirty_gen"] == before + 3
