"""What can happen, a step each that Hypothesis may draw: at Stripe, on the way to us, in our workers, in our calls."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from infra.sandbox.stripe import invoices, refunds
from infra.sandbox.stripe.records import Event
from infra.sandbox.stripe.store import Obj, StripeError
from service.core.errors import ServiceError
from service.features.billing.flows.apply import StaleReading
from service.features.billing.flows.claim import Claim
from service.features.billing.flows.requests import Impossible
from service.features.billing.flows.snapshot import Snapshot, fetch_snapshot
from service.integrations.stripe.client import StripeApi
from service.integrations.stripe.errors import StripeFailed
from tests.features.billing.machine import oracle
from tests.features.billing.machine.bench import Bench, intent
from tests.features.billing.machine.oracle import ENDED, History
from tests.support.stripe import DECLINED, GOOD

PLANS = st.sampled_from(["team", "business"])
FAULTS = st.sampled_from([{}, {"api_lost": 1.0}, {"api_error_after": 1.0}, {"api_error_before": 1.0}])
TENANT_ROWS = """
    SELECT (SELECT count(*) FROM organizations), (SELECT count(*) FROM memberships), (SELECT count(*) FROM indicators)
"""


class Steps(RuleBasedStateMachine):
    """One customer; two workers, of whom either may be overtaken, killed, or wake up too late."""

    bench: ClassVar[Bench]

    def __init__(self) -> None:
        super().__init__()
        self.bench.begin()
        self.subscriptions = History("subscription", oracle.subscription)
        self.invoices = History("invoice", oracle.invoice)
        self.held: dict[int, Claim] = {}
        self.read: dict[int, Snapshot] = {}
        self.delivered: list[Event] = []
        self.lost: list[Event] = []
        self.alive: Snapshot | None = None
        """Stripe's answer from before the last end: what a replica that lags still says."""
        self.marks = self.version = 0
        self.dirty = self.silent = self.leased = False
        self.judged = -1
        self.heard = True
        """Whether we were told something after the last change of a subscription."""
        self.ended: set[str] = set()
        self.facts: set[Any] = set()
        self.tenants = self.bench.rows(TENANT_ROWS)

    # What happens at Stripe.

    def living(self) -> Obj | None:
        every = self.bench.account.store.of("subscription", customer=self.bench.customer.customer)
        return next((one for one in every if one["status"] not in ENDED), None)

    def note(self) -> None:
        self.heard = not self.subscriptions.note(self.bench.account, self.bench.customer.customer) and self.heard
        self.invoices.note(self.bench.account, self.bench.customer.customer)

    @initialize(plan=PLANS)
    def begin(self, plan: str) -> None:
        self.bench.customer.subscribe(plan)
        self.note()

    @precondition(lambda self: self.living() is None)
    @rule(plan=PLANS, trial=st.booleans())
    def subscribe(self, plan: str, trial: bool) -> None:
        self.bench.customer.subscribe(plan, **({"trial_period_days": 14} if trial else {}))
        self.note()

    @precondition(lambda self: self.living() is not None)
    @rule(plan=PLANS, silent=st.booleans())
    def change(self, plan: str, silent: bool) -> None:
        """In the dashboard; `silent` when Stripe fails to make the events."""
        held = self.living()
        assert held is not None
        with self.bench.unheard() if silent else nullcontext(), suppress(StripeError):  # a card is declined
            self.bench.customer.change_to(held, plan, proration_behavior="always_invoice")
        self.silent = self.silent or silent
        self.note()

    @precondition(lambda self: self.living() is not None)
    @rule()
    def cancel_or_take_it_back(self) -> None:
        held = self.living()
        assert held is not None
        if held["cancel_at_period_end"]:
            self.bench.customer.update(held, cancel_at_period_end=False)
        elif held["cancel_at"]:
            self.bench.customer.update(held, cancel_at="")
        else:
            self.bench.customer.update(held, cancel_at_period_end=True)
        self.note()

    @precondition(lambda self: self.living() is not None)
    @rule()
    def end(self) -> None:
        held = self.living()
        assert held is not None
        api = self.bench.resources.get(StripeApi)
        self.alive = self.bench.run(fetch_snapshot(api, self.bench.customer.customer, None))
        self.bench.customer.cancel(held)
        self.note()

    @rule(days=st.sampled_from([1, 4, 31]))
    def pass_time(self, days: int) -> None:
        self.bench.pass_time(days=days, hours=2)
        self.note()

    @rule(good=st.booleans())
    def change_card(self, good: bool) -> None:
        self.bench.customer.use_card(GOOD if good else DECLINED)

    @precondition(lambda self: bool(self.bench.account.store.of("invoice", status="open")))
    @rule()
    def pay_what_is_open(self) -> None:
        account = self.bench.account
        with account.lock:
            for one in account.store.of("invoice", customer=self.bench.customer.customer, status="open"):
                with suppress(StripeError):  # a card is declined
                    invoices.pay(account, one["id"])
        self.note()

    @precondition(lambda self: bool(self.bench.account.store.of("charge")))
    @rule()
    def give_back(self) -> None:
        account = self.bench.account
        with account.lock:
            for one in account.store.of("charge", customer=self.bench.customer.customer, status="succeeded"):
                if one["amount_captured"] - one["amount_refunded"] >= 100:
                    refunds.refund(account, one, 100)
                    break
        self.note()

    # How we hear of it.

    def waiting(self) -> list[Event]:
        gone = {event.id for event in (*self.delivered, *self.lost)}
        return [event for event in self.bench.events() if event.id not in gone]

    @precondition(lambda self: bool(self.waiting()))
    @rule(data=st.data(), twice=st.booleans())
    def deliver(self, data: st.DataObject, twice: bool) -> None:
        """Any of those that wait, in any order."""
        event = data.draw(st.sampled_from(self.waiting()), label="event")
        self.accept(event)
        if twice:
            assert self.bench.deliver(event) in ("known", "ignored")

    @precondition(lambda self: bool(self.waiting()))
    @rule()
    def deliver_all_of_them(self) -> None:
        for event in reversed(self.waiting()):
            self.accept(event)

    @precondition(lambda self: bool(self.delivered))
    @rule(data=st.data())
    def deliver_an_old_one_again(self, data: st.DataObject) -> None:
        event = data.draw(st.sampled_from(self.delivered), label="event")
        assert self.bench.deliver(event) in ("known", "ignored")

    @precondition(lambda self: bool(self.waiting()))
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        self.lost.append(data.draw(st.sampled_from(self.waiting()), label="event"))

    def accept(self, event: Event) -> None:
        before = self.bench.row()["dirty_gen"]
        self.bench.deliver(event)
        self.delivered.append(event)
        self.heard = self.heard or self.bench.row()["dirty_gen"] > before

    # Two workers, each step of theirs a step of ours.

    @precondition(lambda self: self.dirty and not self.leased and len(self.held) < 2)
    @rule(at_once=st.booleans())
    def claim(self, at_once: bool) -> None:
        """And read, at once or in a step of its own."""
        if found := self.bench.claim():
            self.leased = True
            worker = 1 if 0 in self.held else 0
            self.held[worker] = found
            if at_once:
                self.read[worker] = self.bench.fetch(found)

    @precondition(lambda self: self.held.keys() != self.read.keys())
    @rule()
    def fetch(self) -> None:
        worker = min(self.held.keys() - self.read.keys())
        self.read[worker] = self.bench.fetch(self.held[worker])

    @precondition(lambda self: bool(self.read))
    @rule(first=st.booleans())
    def apply(self, first: bool) -> None:
        worker = min(self.read) if first else max(self.read)
        self.write(self.held.pop(worker), self.read.pop(worker))

    def write(self, held: Claim, snapshot: Snapshot) -> None:
        before = self.bench.fingerprint()
        if self.bench.apply(held, snapshot):
            self.version += 1
        else:
            assert self.bench.fingerprint() == before, "a reading that was thrown away has changed something"

    @precondition(lambda self: bool(self.held))
    @rule(dies=st.booleans())
    def stand_still(self, dies: bool) -> None:
        """Until the lease is gone; some wake up again, and write what they had read."""
        self.bench.expire_leases()
        self.leased = False
        if dies:
            worker = min(self.held)
            self.held.pop(worker)
            self.read.pop(worker, None)

    @precondition(lambda self: self.alive is not None and bool(self.held))
    @rule()
    def read_a_replica_that_lags(self) -> None:
        """It still says that the subscription lives, whose end we were told of: such a reading is not written."""
        worker, alive = min(self.held), self.alive
        assert alive is not None
        held, before = self.held[worker], self.bench.fingerprint()
        lives = {str(one["id"]) for one in alive.subscriptions if one["status"] not in ENDED}
        if lives.isdisjoint(held.ended | self.ended):
            return
        try:
            if self.bench.apply(held, alive):
                self.version += 1
        except StaleReading:
            assert self.bench.fingerprint() == before
            self.bench.give_back(held)
        self.held.pop(worker)
        self.read.pop(worker, None)

    # Our sweeps, and our own calls.

    @precondition(lambda self: bool(self.lost))
    @rule()
    def sweep_events(self) -> None:
        before = self.bench.row()["dirty_gen"]
        self.bench.sweep_events()
        self.bench.find_owners()
        self.delivered += self.waiting()
        self.heard = self.heard or self.bench.row()["dirty_gen"] > before

    @precondition(lambda self: self.silent or bool(self.lost))
    @rule()
    def sweep_objects(self) -> None:
        self.silent, before = False, self.bench.row()["dirty_gen"]
        self.bench.sweep_objects()
        found = self.bench.row()["dirty_gen"] - before
        self.marks += found
        self.heard = self.heard or bool(found)

    @precondition(lambda self: self.version > 0)
    @rule(plan=PLANS)
    def ask_for_a_plan(self, plan: str) -> None:
        self.ask("plan_change", plan, intent(), self.bench.account.now())

    @precondition(lambda self: self.version > 0)
    @rule(verb=st.sampled_from(["plan_cancellation", "plan_resumption"]))
    def ask_for_an_end_or_none(self, verb: str) -> None:
        self.ask(verb, intent())

    def ask(self, verb: str, *arguments: Any) -> None:
        with suppress(ServiceError):  # the page says why
            self.bench.ask(verb, *arguments)

    @precondition(lambda self: bool(self.bench.open_operations()))
    @rule(knobs=FAULTS)
    def perform(self, knobs: dict[str, float]) -> None:
        [operation] = self.bench.open_operations()
        before = self.bench.row()
        self.bench.perform(operation, **knobs)
        self.leased = False
        self.note()
        row = self.bench.row()
        # A call that was made marks once, and reads at once.
        self.marks += row["dirty_gen"] - before["dirty_gen"]
        self.version += row["sync_version"] - before["sync_version"]
        assert row["dirty_gen"] - before["dirty_gen"] <= 1
        self.heard = self.heard or row["dirty_gen"] > before["dirty_gen"]

    @precondition(lambda self: bool(self.bench.open_operations()))
    @rule(sent=st.booleans())
    def die_performing(self, sent: bool) -> None:
        [operation] = self.bench.open_operations()
        with suppress(StripeFailed, Impossible):
            self.bench.die_performing(operation, sent=sent)
        self.note()
