"""A database that was tried out in test mode goes live with its rows: they buy nothing, block nothing, mail nobody."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from infra.sandbox.stripe.server import StripeStandIn
from service.core.context import SYSTEM, Caller, Context, Resources
from service.features.billing import actions, queries
from service.features.billing.flows.arrival import Arrival, arrive
from service.features.billing.flows.synchronize import synchronize_now
from service.features.billing.flows.upkeep import derive_again
from service.guardrails.pagination import Position
from service.guardrails.permissions import Role
from tests.support.factories import Factory
from tests.support.stripe import Subscriber, make_subscriber

pytest_plugins = ("tests.guardrails.durability", "tests.features.billing.alone")


@pytest.fixture
async def trial_run(
    own_stripe: StripeStandIn, alone: Resources, own_superuser: asyncpg.Connection[Any], own_factory: Factory
) -> Subscriber:
    """Somebody who "paid" with the card 4242, while everything was still a trial."""
    customer = await make_subscriber(own_stripe, own_superuser, await own_factory.organization())
    customer.subscribe("business")
    assert await synchronize_now(alone, (await customer.row())["id"])
    assert await customer.plan() == "business"
    return customer


@pytest.mark.parametrize("livemode", [False, True])
async def test_scenario_22_what_was_bought_in_the_other_mode(
    livemode: bool, trial_run: Subscriber, alone: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    organization, counts = trial_run.organization, not livemode
    monkeypatch.setattr(alone, "settings", alone.settings.model_copy(update={"stripe_livemode": livemode}))
    async with alone.database.unit_of_work(tenant=organization) as work:
        ctx = Context(work, alone, SYSTEM, Caller("test"), organization, Role.OWNER)
        await derive_again(ctx)
        billing = await queries.get_billing(ctx)
        assert (billing.subscription is not None) is counts
        assert billing.trial is not counts, "a trial of the real thing is still to come"
        assert bool((await queries.list_invoices(ctx, Position())).items) is counts
        assert (await queries.find_customer(ctx) is not None) is counts
        assert (await actions.plan_end(ctx) is not None) is counts
    assert (await trial_run.plan() == "business") is counts
    assert await arrive(alone, organization, None, "") is (Arrival.PAID if counts else Arrival.WAITING)
