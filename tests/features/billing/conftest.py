"""Billing's tests share one Stripe, one server and one worker; each has an organization and a customer of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import pytest

from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.server import StripeStandIn
from tests.support.factories import Factory
from tests.support.servers import RunningServer, RunningWorker
from tests.support.stripe import Subscriber, listen, make_subscriber

Subscribe = Callable[..., Awaitable[Subscriber]]


@pytest.fixture(scope="session")
def connected(stripe: StripeStandIn, server: RunningServer) -> StripeStandIn:
    """Stripe, telling our webhook."""
    listen(stripe, server.url)
    return stripe


@pytest.fixture(autouse=True)
def _healthy(stripe: StripeStandIn) -> Iterator[None]:
    yield
    stripe.knobs = StripeKnobs()


@pytest.fixture
def subscriber(
    connected: StripeStandIn, worker: RunningWorker, superuser: asyncpg.Connection[Any], factory: Factory
) -> Subscribe:
    """Makes an organization with a customer at Stripe, the whole chain running: deliveries, webhook, worker."""

    async def make(**options: Any) -> Subscriber:
        organization = options.pop("organization", None) or await factory.organization()
        return await make_subscriber(connected, superuser, organization, **options)

    return make
