"""A reading is many calls, and a Stripe that is busy for one of them must not send it back to the first."""

from __future__ import annotations

import asyncpg

from infra.sandbox.knobs import changed
from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.server import StripeStandIn
from service.core.context import Resources
from service.features.billing.flows.snapshot import fetch_snapshot
from service.integrations.stripe.client import StripeApi
from tests.support.factories import Factory
from tests.support.stripe import make_subscriber

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
        own_stripe.knobs = changed(StripeKnobs(), {fault: 0.3, "seed": seed})
        found = await fetch_snapshot(alone.get(StripeApi), customer.customer, None)
        assert [one["id"] for one in found.subscriptions] == [subscription["id"]]
    own_stripe.knobs = StripeKnobs()
