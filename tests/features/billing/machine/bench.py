"""Stripe, our webhook and two workers in one process, where nothing moves unless a step says so.

No courier and no worker run: each delivery is a step, and so is each of a worker's (claim, read, write). A test that
draws the steps owns the schedule.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

import asyncpg
from pydantic import SecretStr
from starlette.datastructures import Headers

from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.records import Event
from infra.sandbox.stripe.server import StripeStandIn
from infra.sandbox.stripe.store import Account
from service.app import close_resources, create_resources
from service.core import clock
from service.core.context import Actor, ActorKind, Caller, Context, Login
from service.core.database import UnitOfWork
from service.core.settings import Settings
from service.features.billing import actions
from service.features.billing.flows import apply, operations
from service.features.billing.flows.claim import Claim, claim, give_back
from service.features.billing.flows.events import read_events
from service.features.billing.flows.receive import receive
from service.features.billing.flows.reconcile import Found, compare_objects
from service.features.billing.flows.resolve import resolve_messages
from service.features.billing.flows.snapshot import Snapshot, fetch_snapshot
from service.features.billing.models import Operation
from service.guardrails.circuit_breaker import CircuitBreaker
from service.guardrails.contexts import Signed
from service.guardrails.permissions import Role
from service.integrations.stripe.client import StripeApi
from service.integrations.stripe.pace import Pace
from tests.support.factories import Factory, Person
from tests.support.stripe import Subscriber, make_subscriber, signed, stock

Answer = TypeVar("Answer")
SEED = 20
EMPTY = """
    TRUNCATE billing_customers, billing_subscriptions, billing_invoices, billing_ledger, billing_effects,
        billing_operations, billing_sweeps, inbox, entitlements, entitlement_history, pgqueuer CASCADE
"""
WITHOUT_LEASE = "UPDATE billing_customers SET lease_until = now() - interval '1 second' WHERE lease_until IS NOT NULL"
PATIENCE_OVER = "UPDATE billing_operations SET next_attempt_at = 'epoch'"
OPEN = "SELECT id FROM billing_operations WHERE status IN ('planned', 'in_flight', 'unknown') ORDER BY id"
EVERYTHING = """
    SELECT md5(concat(
        (SELECT string_agg(md5(t::text), '' ORDER BY t.stripe_id) FROM billing_subscriptions AS t),
        (SELECT string_agg(md5(t::text), '' ORDER BY t.stripe_id) FROM billing_invoices AS t),
        (SELECT string_agg(md5(t::text), '' ORDER BY t.id) FROM billing_ledger AS t),
        (SELECT string_agg(md5(t::text), '' ORDER BY t.effect_key) FROM billing_effects AS t),
        (SELECT string_agg(md5(t::text), '' ORDER BY t.organization_id) FROM entitlements AS t),
        (SELECT string_agg(md5(t::text), '' ORDER BY t.id) FROM inbox AS t),
        (SELECT string_agg(md5(t::text), '' ORDER BY t.id) FROM billing_customers AS t)))
"""


class Bench:
    """The steps, each of them finished when its method returns."""

    def __init__(self, settings: Settings, superuser_url: str) -> None:
        self._runner = asyncio.Runner()
        self.stripe = StripeStandIn(seed=SEED)
        self.stripe.__enter__()
        address = SecretStr(self.stripe.secret_key)
        self.settings = settings.model_copy(
            update={"stripe_api_base": self.stripe.address, "stripe_secret_key": address}
        )
        self._url = superuser_url
        self._runner.run(self._open())

    async def _open(self) -> None:
        self.resources = create_resources(self.settings, maintenance=True)
        self.superuser = await asyncpg.connect(self._url)
        await self.superuser.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
        # Twenty calls a second and a pause after five failures: here they would only make the outcome hang on the time.
        api = self.resources.get(StripeApi)
        api._pace = Pace(rate=10_000, burst=10_000)
        api._breaker = CircuitBreaker("stripe", failures=10_000)

    def close(self) -> None:
        async def end() -> None:
            await self.superuser.close()
            await close_resources(self.resources)

        self._runner.run(end())
        self._runner.close()
        self.stripe.__exit__(None, None, None)

    def run(self, story: Coroutine[Any, Any, Answer]) -> Answer:
        return self._runner.run(story)

    def begin(self) -> None:
        """A new Stripe and empty tables; one organization with two people, one indicator and one customer."""

        async def plant() -> tuple[Person, Subscriber]:
            await self.superuser.execute(EMPTY)
            factory = Factory(self.superuser, self.resources, "")
            person = await factory.person(Role.OWNER)
            assert person.organization_id is not None
            await factory.person(Role.MEMBER, person.organization_id)
            await factory.indicator(person.organization_id)
            return person, await make_subscriber(self.stripe, self.superuser, person.organization_id)

        clock.reset()
        Account.__init__(self.account, self.stripe.address, self.stripe.secret_key, StripeKnobs(), SEED)
        stock(self.stripe)
        self.person, self.customer = self.run(plant())
        self.id: UUID = self.row()["id"]

    @property
    def account(self) -> Account:
        return self.stripe.account

    @property
    def organization(self) -> UUID:
        return self.customer.organization

    def row(self) -> asyncpg.Record:
        return self.run(self.customer.row())

    def rows(self, sql: str, *values: Any) -> list[asyncpg.Record]:
        return list(self.run(self.superuser.fetch(sql, *values)))

    def fingerprint(self) -> str:
        """Of everything that a reading may write."""
        return str(self.rows(EVERYTHING)[0][0])

    def pass_time(self, **span: float) -> None:
        self.account.clock.advance(timedelta(**span).total_seconds())
        clock.advance(timedelta(**span))

    @contextmanager
    def unheard(self) -> Iterator[None]:
        """What happens inside makes no event: there is nothing to deliver and nothing to list."""
        self.stripe.knobs = StripeKnobs(suppress=1.0)
        yield
        self.stripe.knobs = StripeKnobs()

    def events(self) -> list[Event]:
        with self.account.lock:
            return list(self.account.events.oldest_first())

    def deliver(self, event: Event) -> str:
        headers = Headers(signed(event.body, at=int(clock.now().timestamp())))
        return self.run(receive(Signed(self.resources, Caller("delivery", "203.0.113.9"), headers, event.body)))

    def claim(self) -> Claim | None:
        async def story() -> Claim | None:
            async with self.resources.database.connection() as connection:
                found = await claim(UnitOfWork(connection).raw, 1, livemode=False, only=self.id)
                return found[0] if found else None

        return self.run(story())

    def fetch(self, held: Claim) -> Snapshot:
        return self.run(fetch_snapshot(self.resources.get(StripeApi), held.stripe_customer_id, held.touched))

    def apply(self, held: Claim, snapshot: Snapshot) -> bool:
        async def story() -> bool:
            async with self.resources.database.unit_of_work(tenant=held.organization_id) as work:
                return await apply.apply_snapshot(self.resources, work, held, snapshot)

        return self.run(story())

    def give_back(self, held: Claim) -> None:
        async def story() -> None:
            async with self.resources.database.connection() as connection:
                await give_back(UnitOfWork(connection).raw, held, "stale", wait=timedelta())

        self.run(story())

    def expire_leases(self) -> None:
        self.run(self.superuser.execute(WITHOUT_LEASE))

    def catch_up(self) -> None:
        """A worker with nobody in its way, until nothing is unread."""
        while held := self.claim():
            self.apply(held, self.fetch(held))

    def find_owners(self) -> None:
        """Of messages that name no customer, such as those about refunds."""
        assert self.resources.maintenance is not None
        while self.run(resolve_messages(self.resources, self.resources.maintenance)):
            pass

    def sweep_events(self) -> None:
        self.run(read_events(self.resources, 0))

    def sweep_objects(self) -> Found:
        assert self.resources.maintenance is not None
        return self.run(compare_objects(self.resources, self.resources.maintenance, full=True, settle=0))

    def ask(self, verb: str, *arguments: Any) -> UUID:
        """The owner clicks; what is written down is made later. Raises ServiceError where the page says no."""

        async def story() -> UUID:
            async with self._asking() as ctx:
                made: Operation = await getattr(actions, verb)(ctx, *arguments)
                return made.id

        return self.run(story())

    @asynccontextmanager
    async def _asking(self) -> Any:
        now, who = clock.now(), self.person.id
        login = Login("key", who, self.organization, now, now, ("password",), 0, "csrf")
        async with self.resources.database.unit_of_work(tenant=self.organization, user=who) as work:
            actor = Actor(ActorKind.USER, who)
            yield Context(work, self.resources, actor, Caller("page"), self.organization, Role.OWNER, login)

    def open_operations(self) -> list[UUID]:
        return [row["id"] for row in self.rows(OPEN)]

    def perform(self, operation: UUID, **knobs: float) -> str:
        """One attempt, in a Stripe that has these faults; nobody is in its way, and its turn has come."""
        self.run(self.superuser.execute(f"{WITHOUT_LEASE}; {PATIENCE_OVER}"))
        self.stripe.knobs = StripeKnobs.model_validate(knobs)
        outcome = self.run(operations.perform(self.resources, self.organization, operation))
        self.stripe.knobs = StripeKnobs()
        return str(outcome.status)

    def die_performing(self, operation: UUID, *, sent: bool) -> None:
        """Killed after the bytes were frozen: before they left, or after, with the answer in nobody's hands."""

        async def story() -> None:
            frozen = await operations._freeze(self.resources, self.organization, operation)
            if sent and frozen is not None:
                await operations._send(self.resources.get(StripeApi), frozen)

        self.run(self.superuser.execute(PATIENCE_OVER))
        self.run(story())


def intent() -> str:
    return uuid4().hex
