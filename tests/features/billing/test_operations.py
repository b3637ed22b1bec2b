"""Our own calls to Stripe: written down first, made once, and found out about when nobody answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.server import StripeStandIn
from infra.sandbox.stripe.store import Obj
from service.core import clock
from service.core.context import Actor, ActorKind, Caller, Context, Login, Resources
from service.core.errors import Conflict
from service.features.billing import actions
from service.features.billing.flows import operations
from service.features.billing.flows.operations import Outcome, ensure_customer, perform
from service.features.billing.flows.preview import preview
from service.features.billing.flows.synchronize import synchronize_now
from service.features.billing.models import Operation, Status
from service.guardrails.permissions import Role
from service.integrations.stripe import client
from service.integrations.stripe.client import StripeApi
from tests.support.factories import Factory, Person
from tests.support.stripe import CHALLENGED, Subscriber, make_subscriber, price_of

pytest_plugins = ("tests.guardrails.durability", "tests.features.billing.alone")


@dataclass
class Desk:
    """An owner who asks for changes, with the steps between asking and knowing in our hand."""

    resources: Resources
    stripe: StripeStandIn
    superuser: asyncpg.Connection[Any]
    person: Person
    customer: Subscriber
    subscription: Obj

    @property
    def organization(self) -> UUID:
        assert self.person.organization_id is not None
        return self.person.organization_id

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[Context]:
        now = clock.now()
        login = Login("key", self.person.id, self.organization, now, now, ("password",), 0, "csrf")
        async with self.resources.database.unit_of_work(tenant=self.organization, user=self.person.id) as work:
            actor = Actor(ActorKind.USER, self.person.id)
            yield Context(work, self.resources, actor, Caller("test"), self.organization, Role.OWNER, login)

    async def change(self, plan: str, intent: str = "", shown_at: int = 0) -> Operation:
        async with self.asking() as ctx:
            moment = shown_at or self.stripe.account.now()
            return await actions.plan_change(ctx, plan, intent or uuid4().hex, moment)

    async def perform(self, operation: Operation) -> Outcome:
        return await perform(self.resources, self.organization, operation.id)

    async def row(self, operation: Operation) -> asyncpg.Record:
        found = await self.superuser.fetchrow("SELECT * FROM billing_operations WHERE id = $1", operation.id)
        assert found is not None
        return found

    async def let_time_pass(self, operation: Operation, **age: float) -> None:
        """The worker's patience is over; with an age, the operation was first sent so long ago."""
        await self.superuser.execute(
            "UPDATE billing_operations SET next_attempt_at = now(), first_sent_at = now() - $2::interval WHERE id = $1",
            operation.id, timedelta(**age),
        )  # fmt: skip

    def plan_at_stripe(self) -> str:
        item = self.stripe.account.store.get("subscription", self.subscription["id"])["items"]["data"][0]
        return str(item["price"]["lookup_key"]).split("_")[1]

    def changes(self) -> int:
        """How often the plan was changed, by what the customer was charged for: each change makes one invoice."""
        invoices = self.stripe.account.store.of("invoice", customer=self.customer.customer)
        return sum(one["billing_reason"] == "subscription_update" for one in invoices)

    def knobs(self, **values: Any) -> None:
        self.stripe.knobs = StripeKnobs(**values)


@pytest.fixture
async def desk(
    own_stripe: StripeStandIn, alone: Resources, own_superuser: asyncpg.Connection[Any], own_factory: Factory
) -> AsyncIterator[Desk]:
    person = await own_factory.person(Role.OWNER)
    assert person.organization_id is not None
    customer = await make_subscriber(own_stripe, own_superuser, person.organization_id)
    subscription = customer.subscribe("team")
    assert await synchronize_now(alone, (await customer.row())["id"], within=60)
    yield Desk(alone, own_stripe, own_superuser, person, customer, subscription)
    own_stripe.knobs = StripeKnobs()


async def test_a_change_is_made_and_our_copy_knows_at_once(desk: Desk) -> None:
    outcome = await desk.perform(await desk.change("business"))
    assert outcome.status is Status.SUCCEEDED
    assert (desk.plan_at_stripe(), await desk.customer.plan()) == ("business", "business")


async def test_scenario_27_two_tabs_make_one_customer(
    own_stripe: StripeStandIn, alone: Resources, own_superuser: asyncpg.Connection[Any], own_factory: Factory
) -> None:
    organization = await own_factory.organization()
    attempts = (ensure_customer(alone, organization) for _ in range(8))
    await asyncio.gather(*attempts, return_exceptions=True)  # who finds the other at work may be told to wait
    await ensure_customer(alone, organization)
    made = [
        one
        for one in own_stripe.account.store.of("customer")
        if one["metadata"].get("organization_id") == str(organization)
    ]
    tied = "SELECT count(*) FROM billing_customers WHERE organization_id = $1"
    assert len(made) == 1
    assert await own_superuser.fetchval(tied, organization) == 1


async def test_scenario_41_ten_clicks_are_one_change(desk: Desk) -> None:
    intent, shown_at = uuid4().hex, desk.stripe.account.now()
    asked = await asyncio.gather(*(desk.change("business", intent, shown_at) for _ in range(10)))
    assert len({operation.id for operation in asked}) == 1
    await asyncio.gather(*(desk.perform(operation) for operation in asked))
    assert desk.changes() == 1
    assert desk.plan_at_stripe() == "business"


async def test_scenario_41_another_wish_waits_until_the_first_is_done(desk: Desk) -> None:
    first = await desk.change("business")
    async with desk.asking() as ctx:
        with pytest.raises(Conflict, match="on its way"):
            await actions.plan_cancellation(ctx, uuid4().hex)
    await desk.perform(first)
    async with desk.asking() as ctx:
        cancelling = await actions.plan_cancellation(ctx, uuid4().hex)
    assert (await desk.perform(cancelling)).status is Status.SUCCEEDED


async def test_scenario_36_checkout_pages_are_opened_one_after_the_other(desk: Desk) -> None:
    """Four tabs at one instant: each page that stays open could be paid, and be a subscription of its own."""
    desk.customer.cancel(desk.subscription)
    assert await synchronize_now(desk.resources, (await desk.customer.row())["id"], within=60)

    async def buy() -> Operation:
        async with desk.asking() as ctx:
            return await actions.plan_checkout(ctx, "team", uuid4().hex)

    asked = await asyncio.gather(*(buy() for _ in range(4)), return_exceptions=True)
    [first] = [one for one in asked if isinstance(one, Operation)]
    assert all(isinstance(one, Conflict) for one in asked if one is not first)
    await desk.perform(first)
    await desk.perform(await buy())
    mine = desk.stripe.account.store.of("checkout.session", customer=desk.customer.customer)
    assert [one["status"] for one in mine] == ["open", "expired"]
    version = (await desk.customer.row())["sync_version"]
    await desk.perform(await buy())
    mine = desk.stripe.account.store.of("checkout.session", customer=desk.customer.customer)
    assert [one["status"] for one in mine] == ["open", "expired", "expired"]
    assert (await desk.customer.row())["sync_version"] == version, "a page that ended long ago told nothing new"


async def test_scenario_46_a_preview_is_patient_too(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BUSY_PAUSES", (0.05,) * 40)
    desk.knobs(api_429=0.7, api_error_before=0.3)
    found = await preview(
        desk.resources, desk.organization, desk.subscription["id"], "business", desk.stripe.account.now()
    )
    assert found.due_now > 0


async def test_scenario_42_there_and_back_and_there_again(desk: Desk) -> None:
    """Three wishes with two sets of parameters: a key made from the parameters would replay the first answer."""
    for number, plan in enumerate(("business", "team", "business"), 1):
        assert (await desk.perform(await desk.change(plan))).status is Status.SUCCEEDED
        assert (desk.plan_at_stripe(), desk.changes()) == (plan, number)


async def test_scenario_43_an_answer_that_never_came(desk: Desk) -> None:
    """The effect happened, the connection broke: the same bytes under the same key find out, without a second one."""
    operation = await desk.change("business")
    desk.knobs(api_lost=1.0)
    assert (await desk.perform(operation)).status is Status.UNKNOWN
    assert desk.plan_at_stripe() == "business"
    desk.knobs()
    await desk.let_time_pass(operation, seconds=60)
    assert (await desk.perform(operation)).status is Status.SUCCEEDED
    assert desk.changes() == 1
    assert await desk.customer.plan() == "business"


@pytest.mark.parametrize("happened", [True, False])
async def test_scenario_44_a_500_that_is_kept_under_its_key(desk: Desk, happened: bool) -> None:
    """Stripe repeats a stored 500 for a day: the state decides, and a new wish is possible when nothing happened."""
    operation = await desk.change("business")
    # Frozen by a process that died before it sent: from here on, only the change itself is asked of Stripe.
    assert await operations._freeze(desk.resources, desk.organization, operation.id) is not None
    desk.knobs(api_error_after=1.0) if happened else desk.knobs(api_error_before=1.0)
    for _ in range(operations.SAME_500 - 1):
        await desk.let_time_pass(operation, seconds=60)
        assert (await desk.perform(operation)).status is Status.UNKNOWN
    desk.knobs()
    await desk.let_time_pass(operation, seconds=60)
    outcome = await desk.perform(operation)
    if happened:
        assert (outcome.status, desk.changes()) == (Status.SUCCEEDED, 1)
    else:
        assert (outcome.status, outcome.error_code, desk.changes()) == (Status.FAILED, "server_error", 0)
        assert (await desk.perform(await desk.change("business"))).status is Status.SUCCEEDED


async def test_scenario_44_a_change_that_waits_for_its_payment_has_happened(desk: Desk) -> None:
    """The bank wants a word: the plan at Stripe is the old one, and the change was made all the same."""
    desk.customer.use_card(CHALLENGED)
    operation = await desk.change("business")
    assert await operations._freeze(desk.resources, desk.organization, operation.id) is not None
    desk.knobs(api_error_after=1.0)
    for _ in range(operations.SAME_500 - 1):
        await desk.let_time_pass(operation, seconds=60)
        assert (await desk.perform(operation)).status is Status.UNKNOWN
    desk.knobs()
    await desk.let_time_pass(operation, seconds=60)
    assert (await desk.perform(operation)).status is Status.SUCCEEDED
    assert (desk.plan_at_stripe(), await desk.customer.plan()) == ("team", "team")


async def test_scenario_44_a_500_before_anything_was_sent_leaves_nothing_behind(desk: Desk) -> None:
    """Finding the price failed: the person is told, and the next click is a new wish."""
    operation = await desk.change("business")
    desk.knobs(api_error_before=1.0)
    assert (await desk.perform(operation)).status is Status.FAILED
    desk.knobs()
    assert (await desk.perform(await desk.change("business"))).status is Status.SUCCEEDED
    assert desk.changes() == 1


async def test_scenario_43_after_a_day_the_state_is_read_before_anything_is_repeated(desk: Desk) -> None:
    """The key has expired: sending the same bytes would be a second change."""
    operation = await desk.change("business")
    desk.knobs(api_lost=1.0)
    await desk.perform(operation)
    desk.knobs()
    desk.stripe.account.kept_answers.clear()
    await desk.let_time_pass(operation, hours=24)
    assert (await desk.perform(operation)).status is Status.SUCCEEDED
    assert desk.changes() == 1


async def test_scenario_45_the_bytes_never_change(desk: Desk, own_factory: Factory) -> None:
    """Somebody joins between two attempts: the frozen request still asks for the old number of seats."""
    operation = await desk.change("business")
    desk.knobs(api_lost=1.0)
    await desk.perform(operation)
    frozen = (await desk.row(operation))["params"]
    await own_factory.person(Role.MEMBER, desk.organization)
    desk.knobs()
    await desk.let_time_pass(operation, seconds=60)
    await desk.perform(operation)
    assert (await desk.row(operation))["params"] == frozen is not None
    assert (await desk.row(operation))["status"] == "succeeded"


async def test_scenario_46_a_busy_object_is_tried_again_and_then_said_to_be_busy(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "BUSY_PAUSES", (0.01, 0.01, 0.01))
    operation = await desk.change("business")
    desk.knobs(api_429=1.0)
    outcome = await desk.perform(operation)
    assert (outcome.status, outcome.error_code) == (Status.FAILED, "limited")
    assert desk.plan_at_stripe() == "team"
    desk.knobs()
    assert (await desk.perform(await desk.change("business"))).status is Status.SUCCEEDED


async def test_scenario_56_one_more_and_one_less_at_once(desk: Desk, own_factory: Factory) -> None:
    """Whoever comes second counts again: the number that is sent is the members there are, never "one more"."""
    await own_factory.person(Role.MEMBER, desk.organization)
    await own_factory.person(Role.MEMBER, desk.organization)
    async with desk.resources.database.unit_of_work(tenant=desk.organization) as work:
        ctx = Context(work, desk.resources, Actor(ActorKind.SYSTEM), Caller("test"), desk.organization)
        operation = await actions.plan_seats(ctx)
    assert operation is not None
    await desk.superuser.execute(
        "DELETE FROM memberships WHERE id IN (SELECT id FROM memberships WHERE organization_id = $1 AND role = 'member'"
        " LIMIT 1)",
        desk.organization,
    )
    assert (await desk.perform(operation)).status is Status.SUCCEEDED
    held = desk.stripe.account.store.get("subscription", desk.subscription["id"])
    assert held["items"]["data"][0]["quantity"] == 2


async def test_a_refusal_is_final_and_changes_nothing(desk: Desk) -> None:
    operation = await desk.change("business")
    with desk.stripe.account.lock:
        item = desk.stripe.account.store.get("subscription", desk.subscription["id"])["items"]["data"][0]
        kept, item["id"] = item["id"], "si_gone"
    outcome = await desk.perform(operation)
    item["id"] = kept
    assert outcome.status is Status.FAILED
    assert (await desk.row(operation))["settled_at"] is not None
    assert desk.plan_at_stripe() == "team"


async def test_what_was_never_sent_is_not_left_hanging(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stripe cannot be reached at all: the person is told and may click again, tomorrow's worker does not surprise."""
    operation = await desk.change("business")
    port = desk.stripe.port
    assert price_of(desk.stripe, "business")
    away = Resources(desk.resources.settings, desk.resources.database, desk.resources.redis)
    api = type(desk.resources.get(StripeApi))
    settings = desk.resources.settings.model_copy(update={"stripe_api_base": f"http://127.0.0.1:{port - 1 or 1}"})
    away.provide(StripeApi, api(settings))
    try:
        outcome = await perform(away, desk.organization, operation.id)
    finally:
        await away.get(StripeApi).aclose()
    assert outcome.status is Status.FAILED
    assert desk.plan_at_stripe() == "team"


async def test_scenario_32_an_end_is_wished_for_until_stripe_hears_it(desk: Desk) -> None:
    """The organization was deleted while Stripe was away: the subscription must not go on for ever."""
    async with desk.resources.database.unit_of_work(tenant=desk.organization) as work:
        ctx = Context(work, desk.resources, Actor(ActorKind.SYSTEM), Caller("test"), desk.organization)
        operation = await actions.plan_end(ctx)
    assert operation is not None
    desk.knobs(api_429=1.0)
    assert (await desk.perform(operation)).status in (Status.PLANNED, Status.UNKNOWN)
    desk.knobs()
    await desk.let_time_pass(operation, seconds=60)
    assert (await desk.perform(operation)).status is Status.SUCCEEDED
    assert desk.stripe.account.store.get("subscription", desk.subscription["id"])["status"] == "canceled"
    assert await desk.customer.plan() == "free"
