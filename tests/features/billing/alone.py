"""A database and a Stripe of its own, with no worker and no deliveries: nothing moves unless the test says so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.server import StripeStandIn
from service.app import close_resources, create_resources
from service.core.context import Resources
from service.core.settings import Settings
from tests.features.billing.conftest import RETIRE
from tests.features.billing.lone import Lone, MakeLone
from tests.support.factories import Factory
from tests.support.stripe import make_subscriber, stock


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


@pytest.fixture
async def lone(
    own_stripe: StripeStandIn, own_superuser: asyncpg.Connection[Any], own_factory: Factory, alone: Resources
) -> AsyncIterator[MakeLone]:
    """Makes organizations with a customer at a healthy Stripe."""

    async def make() -> Lone:
        made = await make_subscriber(own_stripe, own_superuser, await own_factory.organization())
        return Lone(made.stand_in, made.superuser, made.organization, made.customer, alone)

    yield make
    own_stripe.knobs = StripeKnobs()
    await own_superuser.execute(RETIRE)
