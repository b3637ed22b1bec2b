"""Billing's tests share one Stripe, one server and one worker; each has an organization and a customer of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from infra.sandbox.stripe import subscriptions
from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.server import StripeStandIn
from service.features.billing.models.mirror import TERMINAL
from service.guardrails.permissions import Role
from tests.features.billing.buyer import Buyer
from tests.support.factories import Factory
from tests.support.servers import RunningServer, RunningWorker
from tests.support.stripe import Subscriber, listen, make_subscriber

Subscribe = Callable[..., Awaitable[Subscriber]]
MakeBuyer = Callable[..., Awaitable[Buyer]]

RETIRE = """
    WITH retired AS (
        UPDATE billing_customers SET livemode = true, synced_gen = dirty_gen, dead_at = NULL
        WHERE NOT livemode RETURNING organization_id
    )
    DELETE FROM entitlements USING retired WHERE entitlements.organization_id = retired.organization_id
"""


@pytest.fixture(scope="session")
def connected(stripe: StripeStandIn, server: RunningServer) -> StripeStandIn:
    """Stripe, telling our webhook."""
    listen(stripe, server.url)
    return stripe


@pytest.fixture(autouse=True)
def _healthy(stripe: StripeStandIn) -> Iterator[None]:
    yield
    with stripe.account.lock:
        # A later test that moves the clock must not renew what all the earlier ones subscribed to, nor wait until the
        # worker has read all that ends here.
        stripe.knobs = StripeKnobs(suppress=1.0)
        for subscription in stripe.account.store.of("subscription"):
            if subscription["status"] not in TERMINAL:
                subscriptions.cancel(stripe.account, subscription["id"])
        stripe.knobs = StripeKnobs()


@pytest.fixture
async def _retired(superuser: asyncpg.Connection[Any]) -> AsyncIterator[None]:
    """Whoever this test leaves behind is the other mode's: "everybody" of a later one was two hundred customers."""
    yield
    await superuser.execute(RETIRE)


@pytest.fixture
def subscriber(
    _retired: None,
    connected: StripeStandIn,
    worker: RunningWorker,
    superuser: asyncpg.Connection[Any],
    factory: Factory,
) -> Subscribe:
    """Makes an organization with a customer at Stripe, the whole chain running: deliveries, webhook, worker."""

    async def make(**options: Any) -> Subscriber:
        organization = options.pop("organization", None) or await factory.organization()
        return await make_subscriber(connected, superuser, organization, **options)

    return make


@pytest.fixture
async def buyer(
    _retired: None, connected: StripeStandIn, superuser: asyncpg.Connection[Any], factory: Factory
) -> AsyncIterator[MakeBuyer]:
    """Makes a person in an organization of their own, or in a given one, with a browser."""
    async with AsyncExitStack() as stack:

        async def make(role: Role = Role.OWNER, organization: UUID | None = None) -> Buyer:
            person = await factory.person(role, organization)
            client = await stack.enter_async_context(await factory.client(person))
            return Buyer(client, person, connected, superuser)

        yield make
