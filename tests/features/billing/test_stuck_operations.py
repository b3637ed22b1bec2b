"""What must not stand in the way for ever: a try that failed for good, an answer that tells nothing, a mistake."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from infra.sandbox.stripe import catalog, customers
from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.server import StripeStandIn
from service.core import clock
from service.core.context import SYSTEM, Caller, Context, Resources
from service.core.database import Database
from service.features.billing import actions
from service.features.billing.flows import metrics
from service.features.billing.flows.operations import ensure_customer, perform, perform_due
from service.features.billing.flows.resolve import _propose
from service.features.billing.flows.synchronize import synchronize_now
from service.features.billing.models import Kind, Operation, Status
from service.guardrails.permissions import Role
from service.integrations.stripe.client import StripeApi
from service.integrations.stripe.errors import StripeFailed
from tests.support.factories import Factory
from tests.support.stripe import make_subscriber

pytest_plugins = ("tests.guardrails.durability", "tests.features.billing.alone")
Superuser: TypeAlias = "asyncpg.Connection[Any]"
TIED = "SELECT stripe_customer_id FROM billing_customers WHERE organization_id = $1"
Ask = Callable[..., Awaitable[Operation | None]]


@pytest.fixture
def ask(alone: Resources) -> Ask:
    async def write_down(organization: UUID, verb: Callable[..., Any], *arguments: Any) -> Operation | None:
        async with alone.database.unit_of_work(tenant=organization) as work:
            ctx = Context(work, alone, SYSTEM, Caller("test"), organization, Role.OWNER)
            found: Operation | None = await verb(ctx, *arguments)
            return found

    return write_down


@pytest.mark.parametrize("then", [Status.PLANNED, Status.FAILED])
async def test_a_customer_that_could_not_be_made_is_made_another_time(
    then: Status, own_stripe: StripeStandIn, alone: Resources, own_superuser: Superuser, own_factory: Factory
) -> None:
    """Our key was wrong on the day of the launch: whoever had clicked "buy" could never buy anything again."""
    organization = await own_factory.organization()
    locked_out = Resources(alone.settings, alone.database, alone.redis)
    wrong = alone.settings.model_copy(update={"stripe_secret_key": SecretStr("sk_test_wrong")})
    locked_out.provide(StripeApi, StripeApi(wrong))
    with pytest.raises(StripeFailed):
        await ensure_customer(locked_out, organization)
    await locked_out.get(StripeApi).aclose()
    found = "SELECT status FROM billing_operations WHERE organization_id = $1"
    assert await own_superuser.fetchval(found, organization) == "planned", "tried until somebody mends the key"
    await own_superuser.execute(
        "UPDATE billing_operations SET status = $2 WHERE organization_id = $1", organization, then
    )
    await ensure_customer(alone, organization)
    assert await own_superuser.fetchval(TIED, organization) in own_stripe.account.store.kinds["customer"]


async def test_scenario_44_a_customer_is_found_by_its_mark_and_tied_by_its_id(
    own_stripe: StripeStandIn, alone: Resources, own_superuser: Superuser, own_factory: Factory
) -> None:
    """A 500 after the effect is kept under the key: what was made has a name, and it is not "None"."""
    organization = await own_factory.organization()
    before = len(own_stripe.account.store.kinds.get("customer", {}))
    own_stripe.knobs = StripeKnobs(api_error_after=1.0)
    await ensure_customer(alone, organization)
    own_stripe.knobs = StripeKnobs()
    assert await own_superuser.fetchval(TIED, organization) in own_stripe.account.store.kinds["customer"]
    assert len(own_stripe.account.store.kinds["customer"]) == before + 1


async def test_scenario_27_whoever_clicks_in_the_same_instant_gets_no_error_of_ours(
    own_stripe: StripeStandIn, alone: Resources, own_factory: Factory
) -> None:
    async def connect() -> None:
        async with alone.database.unit_of_work() as work:
            await work.raw.fetchval("SELECT pg_sleep(0.3)")

    before = len(own_stripe.account.store.kinds.get("customer", {}))
    organization = await own_factory.organization()
    await asyncio.gather(*(connect() for _ in range(6)))  # nobody is first only because the others still connect
    own_stripe.knobs = StripeKnobs(
        api_latency_min=0.3, api_latency_max=0.3
    )  # and whoever is late finds the first one waiting for Stripe
    ends = await asyncio.gather(*(ensure_customer(alone, organization) for _ in range(6)), return_exceptions=True)
    own_stripe.knobs = StripeKnobs()
    assert ends == [None] * 6
    assert len(own_stripe.account.store.kinds["customer"]) == before + 1


async def test_a_mistake_in_one_operation_does_not_hold_up_the_others(
    own_stripe: StripeStandIn,
    alone: Resources,
    own_maintenance: Database,
    own_superuser: Superuser,
    own_factory: Factory,
    ask: Ask,
) -> None:
    """A plan that was asked for and is in no catalogue any more: it was always the first in the line, and the last."""
    poison, other = await own_factory.organization(), await own_factory.organization()
    for organization in (poison, other):
        customer = await make_subscriber(own_stripe, own_superuser, organization)
        customer.subscribe("team")
        assert await synchronize_now(alone, (await customer.row())["id"], within=60)
    broken = await ask(poison, actions.plan_change, "business", uuid4().hex, own_stripe.account.now())
    wanted = await ask(other, actions.plan_end)
    assert broken is not None
    assert wanted is not None
    await own_superuser.execute(
        """UPDATE billing_operations SET wish = wish || '{"plan": "gone"}', next_attempt_at = 'epoch' WHERE id = $1""",
        broken.id,
    )
    await perform_due(alone, own_maintenance)
    rows = await own_superuser.fetch("SELECT id, status, next_attempt_at FROM billing_operations")
    found = {row["id"]: row for row in rows}
    assert found[wanted.id]["status"] == "succeeded"
    assert found[broken.id]["next_attempt_at"] > clock.now()
    await own_superuser.execute("UPDATE billing_operations SET status = 'failed' WHERE id = $1", broken.id)


async def test_scenario_57_seats_are_those_of_the_plan_and_not_of_an_add_on(
    own_stripe: StripeStandIn, alone: Resources, own_superuser: Superuser, own_factory: Factory, ask: Ask
) -> None:
    """Somebody put an add-on in front by hand, with a lookup key of its own."""
    organization = await own_factory.organization()
    customer = await make_subscriber(own_stripe, own_superuser, organization)
    with own_stripe.account.lock:
        given = {"currency": "eur", "unit_amount": 500, "lookup_key": f"addon_{uuid4().hex}"}
        month = {"recurring": {"interval": "month"}, "product_data": {"name": "Priority support"}}
        addon = catalog.add_price(own_stripe.account, {**given, **month})
    subscription = customer.subscribe("team")
    plan = subscription["items"]["data"][0]
    customer.update(subscription, items=[{"price": addon["id"]}])
    assert await synchronize_now(alone, (await customer.row())["id"], within=60)
    await own_superuser.execute(
        """UPDATE billing_subscriptions SET items = jsonb_build_array(items -> 1, items -> 0) WHERE stripe_id = $1
        AND items -> 0 ->> 'id' = $2""",
        subscription["id"], plan["id"],
    )  # fmt: skip
    for _ in range(2):
        await own_factory.person(Role.MEMBER, organization)
    operation = await ask(organization, actions.plan_seats)
    assert operation is not None
    assert operation.kind is Kind.SEATS
    await perform(alone, organization, operation.id)
    held = own_stripe.account.store.get("subscription", subscription["id"])["items"]["data"]
    assert {one["id"]: one["quantity"] for one in held} == {plan["id"]: 2, held[1]["id"]: 1}


@pytest.mark.parametrize("same", [True, False])
async def test_the_event_of_a_customer_that_we_tied_ourselves_is_no_alarm(
    same: bool, own_stripe: StripeStandIn, alone: Resources, own_superuser: Superuser, own_factory: Factory
) -> None:
    """Our own call tied it while its message was looked up: staff were told of two customers, and there was one."""
    organization = await own_factory.organization()
    first = await make_subscriber(own_stripe, own_superuser, organization)
    second = customers.add(own_stripe.account, {"metadata": {"organization_id": str(organization)}})
    alarms = metrics.alarms.labels("two customers")
    before = alarms._value.get()
    await _propose(alone, first.customer if same else second["id"], {})
    assert alarms._value.get() - before == (0 if same else 1)
