"""Messages that name no customer: whose they are is asked until there is an answer."""

from __future__ import annotations

import asyncio
from typing import Any, TypeAlias
from uuid import uuid4

import asyncpg
import orjson
import pytest

from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.server import StripeStandIn
from service.core.context import Resources
from service.core.database import Database
from service.features.billing.flows import resolve
from tests.features.billing.lone import deliver
from tests.support.factories import Factory
from tests.support.stripe import make_subscriber

pytest_plugins = ("tests.guardrails.durability", "tests.features.billing.alone")
Superuser: TypeAlias = "asyncpg.Connection[Any]"
DUE = "UPDATE inbox SET next_attempt_at = now() - interval '1 hour' WHERE external_id = $1 RETURNING attempts"


@pytest.mark.parametrize("trouble", ["Stripe does not answer", "the worker dies"])
async def test_a_thin_event_is_not_forgotten_because_of(
    trouble: str,
    own_stripe: StripeStandIn,
    alone: Resources,
    own_maintenance: Database,
    own_superuser: Superuser,
    own_factory: Factory,
) -> None:
    """It names a subscription and no customer. Stripe was asked at the first attempt, or never."""
    customer = await make_subscriber(own_stripe, own_superuser, await own_factory.organization())
    subscription, event_id = customer.subscribe("team"), f"evt_{uuid4().hex}"
    thing = {"id": subscription["id"], "type": "subscription", "url": f"/v1/subscriptions/{subscription['id']}"}
    event = {"id": event_id, "object": "v2.core.event", "type": "v1.customer.subscription.updated", "livemode": False}
    body = orjson.dumps({**event, "created": "2026-11-22T10:00:00.000Z", "related_object": thing})
    assert await deliver(alone, body) == "new"
    await own_superuser.execute(DUE, event_id)
    if trouble == "the worker dies":
        async with own_maintenance.connection() as connection:
            raw = (await connection.get_raw_connection()).driver_connection
            assert raw is not None
            await raw.fetch(resolve.TAKE, resolve.ATTEMPTS, resolve.AT_ONCE)
    else:
        own_stripe.knobs = StripeKnobs(api_429=1.0)
        await resolve.resolve_messages(alone, own_maintenance)
        own_stripe.knobs = StripeKnobs()
    await own_superuser.execute(DUE, event_id)
    await resolve.resolve_messages(alone, own_maintenance)
    found = await own_superuser.fetchrow("SELECT subject, gen FROM inbox WHERE external_id = $1", event_id)
    assert found is not None
    assert (found["subject"], found["gen"]) == (customer.customer, (await customer.row())["dirty_gen"])


async def test_what_stripe_has_said_is_not_asked_again(
    own_stripe: StripeStandIn, alone: Resources, own_maintenance: Database, own_superuser: Superuser
) -> None:
    """Another product's events arrive by the thousand: one question each."""
    event_id = f"evt_{uuid4().hex}"
    thing = {"id": "sub_of_nobody", "type": "subscription", "url": "/v1/subscriptions/sub_of_nobody"}
    event = {"id": event_id, "object": "v2.core.event", "type": "v1.customer.subscription.updated", "livemode": False}
    await deliver(alone, orjson.dumps({**event, "created": "2026-11-22T10:00:00.000Z", "related_object": thing}))
    for attempt in (1, 2):
        await own_superuser.execute(DUE, event_id)
        await resolve.resolve_messages(alone, own_maintenance)
        assert await own_superuser.fetchval("SELECT attempts FROM inbox WHERE external_id = $1", event_id) == attempt
    facts = orjson.loads(await own_superuser.fetchval("SELECT facts FROM inbox WHERE external_id = $1", event_id))
    assert facts["asked"] is True


@pytest.mark.parametrize("decision", ["discarded", "replayed"])
async def test_what_staff_decide_while_stripe_is_asked_stands(
    decision: str, own_stripe: StripeStandIn, alone: Resources, own_maintenance: Database, own_superuser: Superuser
) -> None:
    """The round writes after its answer: with what it had read before, it would take their decision back."""
    event_id = f"evt_{uuid4().hex}"
    thing = {"id": "sub_of_nobody", "type": "subscription", "url": "/v1/subscriptions/sub_of_nobody"}
    event = {"id": event_id, "object": "v2.core.event", "type": "v1.customer.subscription.updated", "livemode": False}
    await deliver(alone, orjson.dumps({**event, "created": "2026-11-22T10:00:00.000Z", "related_object": thing}))
    await own_superuser.execute(DUE, event_id)
    own_stripe.knobs = StripeKnobs(api_429=1.0, api_latency_min=0.5, api_latency_max=0.5)
    values = {"discarded": "state = 'ignored', reason = 'discarded'", "replayed": "attempts = 0"}[decision]
    async with asyncio.TaskGroup() as group:
        group.create_task(resolve.resolve_messages(alone, own_maintenance))
        wanted = f"UPDATE inbox SET {values} WHERE external_id = $1 AND attempts = 1 RETURNING id"
        while await own_superuser.fetchval(wanted, event_id) is None:
            await asyncio.sleep(0.01)
    own_stripe.knobs = StripeKnobs()
    found = await own_superuser.fetchrow("SELECT state, reason, attempts FROM inbox WHERE external_id = $1", event_id)
    assert found is not None
    told = {"discarded": ("ignored", "discarded", 1), "replayed": ("unmatched", "", 0)}[decision]
    assert (found["state"], found["reason"], found["attempts"]) == told
