"""What a reading of Stripe takes along: all of its calls, one of which may be refused, and what somebody owes."""

from __future__ import annotations

import asyncpg

from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.server import StripeStandIn
from service.core.context import Resources
from service.features.billing.flows.snapshot import fetch_snapshot
from service.integrations.stripe.client import StripeApi
from tests.support.factories import Factory
from tests.support.stripe import DECLINED, make_subscriber

pytest_plugins = ("tests.guardrails.durability", "tests.features.billing.alone")
SECOND_CALL = {"api_429": 185, "api_error_before": 8}
"""Seeds of chance by which the second call is refused, and none of the next ones."""


async def test_scenario_74_a_refusal_in_the_middle_of_a_reading_is_asked_about_again(
    own_stripe: StripeStandIn, alone: Resources, own_superuser: asyncpg.Connection[object], own_factory: Factory
) -> None:
    """Four calls in ten refused, and the plan of somebody who had paid was half a minute late."""
    customer = await make_subscriber(own_stripe, own_superuser, await own_factory.organization())
    subscription = customer.subscribe("team")
    for fault, seed in SECOND_CALL.items():
        own_stripe.knobs = StripeKnobs.model_validate({fault: 0.3, "seed": seed})
        found = await fetch_snapshot(alone.get(StripeApi), customer.customer, None)
        assert [one["id"] for one in found.subscriptions] == [subscription["id"]]
    own_stripe.knobs = StripeKnobs()


async def test_scenario_50_whoever_owes_is_read_with_what_they_owe(
    own_stripe: StripeStandIn, alone: Resources, own_superuser: asyncpg.Connection[object], own_factory: Factory
) -> None:
    """The message about the subscription came first, and the banner had nothing to pay in it."""
    customer = await make_subscriber(own_stripe, own_superuser, await own_factory.organization())
    customer.subscribe("team")
    read = alone.get(StripeApi), customer.customer, ["subscription"]
    assert (await fetch_snapshot(*read)).invoices is None
    customer.use_card(DECLINED)
    own_stripe.account.clock.advance(31 * 86_400 + 7_200)
    assert [one["status"] for one in (await fetch_snapshot(*read)).invoices or ()] == ["open", "paid"]
