"""What always holds, asked after each step, and what holds when all is quiet."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import orjson
from hypothesis.stateful import invariant
from sqlalchemy import select

from service.core import clock
from service.features.billing.models import Invoice, Subscription
from service.features.billing.models.derive import Grant, derive
from service.features.billing.models.plans import BY_KEY, FREE
from tests.features.billing.machine import oracle
from tests.features.billing.machine.oracle import ENDED
from tests.features.billing.machine.steps import TENANT_ROWS, Steps

ROUNDS = 8
NOTICES = "SELECT payload FROM pgqueuer WHERE entrypoint LIKE '%mail_notice'"


class Billing(Steps):
    """One customer; two workers, of whom either may be overtaken, killed, or wake up too late."""

    @invariant()
    def holds(self) -> None:
        self.the_copy_is_a_state_that_stripe_had()
        self.it_counts_what_it_was_told_and_what_it_wrote()
        self.what_may_be_used_follows_from_the_copy()
        self.nothing_of_the_customers_is_gone()
        self.money_is_only_ever_added()
        self.no_wish_happens_twice()
        self.each_fact_sets_off_one_notice()

    def the_copy_is_a_state_that_stripe_had(self) -> None:
        rows = self.bench.rows("SELECT * FROM billing_subscriptions")
        self.subscriptions.insist_on({row["stripe_id"]: oracle.copied_subscription(row) for row in rows})
        bills = self.bench.rows("SELECT * FROM billing_invoices")
        self.invoices.insist_on({row["stripe_id"]: oracle.invoice(row) for row in bills})
        over = {row["stripe_id"] for row in rows if row["status"] in ENDED}
        assert self.ended <= over, "what had ended lives again"
        self.ended = over

    def it_counts_what_it_was_told_and_what_it_wrote(self) -> None:
        row = self.bench.row()
        [heard] = self.bench.rows("SELECT count(*) AS messages, count(DISTINCT gen) AS gens FROM inbox WHERE gen > 0")
        assert row["sync_version"] == self.version
        assert row["dirty_gen"] == heard["gens"] + self.marks
        assert heard["gens"] == heard["messages"]
        assert row["synced_gen"] <= row["dirty_gen"]
        self.dirty = row["synced_gen"] < row["dirty_gen"]
        self.leased = row["lease_until"] is not None and self.leased
        if row["synced_gen"] == row["dirty_gen"] and self.heard:
            assert self.subscriptions.is_current, "we were told, nothing is unread, and the copy is old"

    def what_may_be_used_follows_from_the_copy(self) -> None:
        rows = self.bench.rows("SELECT * FROM entitlements")
        held = rows[0] if rows else None
        plan = BY_KEY[held["plan"]] if held else FREE
        now = Grant(plan, held["full_until"], held["valid_until"], held["source"]) if held else Grant(FREE)
        if self.judged != self.version:
            assert self.derived() == now
            self.judged = self.version
        moment, state = clock.now(), self.subscriptions.states[self.subscriptions.reached]
        usable = plan if not held or held["valid_until"] is None or held["valid_until"] > moment else FREE
        assert usable.rank <= oracle.earns(state, moment).rank, "more than any state of Stripe's justifies"
        full = not held or held["full_until"] is None or held["full_until"] > moment
        owed = oracle.is_owed(state, moment)
        assert usable.rank >= owed.rank, "a smaller plan than the one that is paid for"
        assert full or owed is FREE, "read-only, and it is paid for"

    def derived(self) -> Grant:
        async def story() -> Grant:
            async with self.bench.resources.database.unit_of_work(tenant=self.bench.organization) as work:
                mine = list((await work.session.execute(select(Subscription))).scalars())
                bills = list((await work.session.execute(select(Invoice))).scalars())
            grace, now = timedelta(days=self.bench.settings.grace_days), clock.now()
            found = derive(mine, bills, (), None, grace=grace, now=now)
            assert derive(mine[::-1], bills[::-1], (), None, grace=grace, now=now) == found
            return found

        return self.bench.run(story())

    def nothing_of_the_customers_is_gone(self) -> None:
        assert self.bench.rows(TENANT_ROWS) == self.tenants

    def money_is_only_ever_added(self) -> None:
        rows = self.bench.rows("SELECT id, kind, stripe_id, status, amount, about FROM billing_ledger")
        assert self.facts <= {tuple(row) for row in rows}, "a fact about money was changed or lost"
        self.facts = {tuple(row) for row in rows}
        taken, given = Counter[str](), Counter[str]()
        for row in rows:
            (given if row["kind"] == "refund" else taken)[row["about" if row["kind"] == "refund" else "stripe_id"]] += (
                row["amount"]
            )
        assert all(given[name] <= taken[name] for name in given if name in taken)

    def no_wish_happens_twice(self) -> None:
        """All events that one idempotency key caused came out of one request."""
        caused: dict[str, set[str]] = {}
        for event in self.bench.events():
            request = orjson.loads(event.body)["request"]
            if request["idempotency_key"]:
                caused.setdefault(request["idempotency_key"], set()).add(request["id"])
        twice = {key: ids for key, ids in caused.items() if len(ids) > 1}
        assert not twice

    def each_fact_sets_off_one_notice(self) -> None:
        payloads = [orjson.loads(row["payload"]) for row in self.bench.rows(NOTICES)]
        set_off = Counter(one["event"]["facts"]["effect"] for one in payloads if one["event"]["facts"]["new"])
        known = {
            row["effect_key"] for row in self.bench.rows("SELECT effect_key FROM billing_effects WHERE outcome IS NULL")
        }
        assert set_off == dict.fromkeys(known, 1)

    def teardown(self) -> None:
        """Quiet: leases run out, calls are settled, sweeps run; then we hold what Stripe holds, and nothing is open."""
        self.bench.expire_leases()
        for _ in range(ROUNDS):
            for operation in self.bench.open_operations():
                self.bench.perform(operation)
        self.note()
        self.bench.sweep_events()
        self.bench.find_owners()
        self.bench.catch_up()
        for _ in range(2):
            found = self.bench.sweep_objects()
            self.bench.catch_up()
        assert not found, f"two sweeps in a row have found {found}"
        self.the_copy_is_a_state_that_stripe_had()
        assert self.subscriptions.is_current
        assert self.invoices.is_current
        self.money_is_stripes()
        assert not self.bench.open_operations()
        assert self.bench.rows("SELECT type, subject FROM inbox WHERE state IN ('pending', 'dead')") == []
        row = self.bench.row()
        assert (row["lease_token"], row["dead_at"], row["dirty_gen"]) == (None, None, row["synced_gen"])

    def money_is_stripes(self) -> None:
        rows = self.bench.rows(
            "SELECT DISTINCT ON (stripe_id) kind, amount FROM billing_ledger ORDER BY stripe_id, id DESC"
        )
        ours = Counter[str]()
        for row in rows:
            ours[row["kind"]] += row["amount"]
        charges = self.bench.account.store.of("charge", customer=self.bench.customer.customer)
        assert ours["charge"] == sum(one["amount_captured"] for one in charges)
        assert ours["refund"] == sum(one["amount_refunded"] for one in charges)
