"""A database and a Stripe of its own, with no worker and no deliveries: nothing moves unless the test says so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr
from starlette.datastructures import Headers

from infra.sandbox.stripe.server import StripeStandIn
from service.app import close_resources, create_resources
from service.core.context import Caller, Resources
from service.core.settings import Settings
from service.features.billing.flows.receive import receive
from service.guardrails.contexts import Signed
from tests.support.factories import Factory
from tests.support.stripe import signed, stock


@pytest.fixture(scope="module")
def own_stripe() -> Iterator[StripeStandIn]:
    with StripeStandIn() as stand_in:
        stock(stand_in)
        yield stand_in


@pytest.fixture(scope="module")
async def alone(own_settings: Settings, own_stripe: StripeStandIn) -> AsyncIterator[Resources]:
    """What a process has that nobody disturbs."""
    key = SecretStr(own_stripe.secret_key)
    stripe = {"stripe_api_base": own_stripe.address, "stripe_secret_key": key}
    made = create_resources(own_settings.model_copy(update=stripe))
    yield made
    await close_resources(made)


@pytest.fixture(scope="module")
def own_factory(own_superuser: asyncpg.Connection[Any], alone: Resources) -> Factory:
    return Factory(own_superuser, alone, "http://nobody.invalid")


async def deliver(resources: Resources, body: bytes) -> str:
    """A message with its signature, as the webhook's route hands it on."""
    return await receive(Signed(resources, Caller("delivery", "203.0.113.9"), Headers(signed(body)), body))
