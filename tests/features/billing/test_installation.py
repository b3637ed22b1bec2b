"""A whole service of its own (database, Redis, Stripe, web process, worker), whose parts may be lost or replaced.

Numbers: docs/scenarios.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from pydantic import SecretStr

from infra.sandbox.ports import free_port
from infra.sandbox.redis import EmbeddedRedis
from infra.sandbox.stripe.server import StripeStandIn
from service.app import close_resources, create_resources
from service.core.context import Resources
from service.core.settings import Settings
from tests.conftest import TEMPLATE, TestServers
from tests.features.billing.test_disturbances import until
from tests.features.billing.test_races import Steps
from tests.support.factories import Factory
from tests.support.servers import RunningServer, RunningWorker
from tests.support.stripe import Subscriber, event_body, listen, make_subscriber, post, stock

THEN = timedelta(hours=1)


@dataclass
class Installation:
    settings: Settings
    redis: EmbeddedRedis
    stripe: StripeStandIn
    resources: Resources
    superuser: asyncpg.Connection[Any]

    async def subscriber(self) -> Subscriber:
        factory = Factory(self.superuser, self.resources, self.settings.base_url)
        return await make_subscriber(self.stripe, self.superuser, await factory.organization())


@pytest.fixture
async def installation(settings: Settings, servers: TestServers, tmp_path: Path) -> AsyncIterator[Installation]:
    name, port = f"installation_{free_port()}", free_port()
    servers.postgres.create_database(name, template=TEMPLATE)
    async with AsyncExitStack() as stack:
        stack.callback(servers.postgres.drop_database, name)
        redis = stack.enter_context(EmbeddedRedis(tmp_path / "redis", durable=False))
        stripe = stack.enter_context(StripeStandIn())
        stock(stripe)
        own = settings.model_copy(
            update={
                "base_url": f"http://127.0.0.1:{port}",
                "database_url": SecretStr(servers.postgres.url("ballast_app", name)),
                "database_maintenance_url": SecretStr(servers.postgres.url("ballast_maintenance", name)),
                "redis_url": SecretStr(redis.url()),
                "redis_timeout_ms": 500,
                "stripe_api_base": stripe.address,
            }
        )
        superuser = await asyncpg.connect(servers.postgres.url("postgres", name))
        stack.push_async_callback(superuser.close)
        resources = create_resources(own)
        stack.push_async_callback(close_resources, resources)
        server = stack.enter_context(RunningServer(own))
        stack.enter_context(RunningWorker(own))
        listen(stripe, server.url)
        yield Installation(own, redis, stripe, resources, superuser)


async def test_scenario_71_redis_is_lost_and_plans_go_on(installation: Installation) -> None:
    """The queue is PostgreSQL: without Redis, and with an empty one afterwards, every change arrives, once."""
    customer = await installation.subscriber()
    installation.redis.kill()
    subscription = customer.subscribe("team")
    await customer.settled()
    assert await customer.plan() == "team"
    forged = await post(installation.settings.base_url, event_body("invoice.paid", {"id": "in_1"}), {})
    assert forged.status_code == 400, "the count of failures is in Redis; the refusal is not"
    customer.change_to(subscription, "business")
    await customer.settled()
    assert await customer.plan() == "business"
    installation.redis.start()
    customer.cancel(subscription)
    await customer.settled()
    assert await customer.plan() == "free"
    effects = "SELECT array_agg(kind) FROM billing_effects WHERE organization_id = $1"
    assert await installation.superuser.fetchval(effects, customer.organization) == ["ended"]
    await until("SELECT count(*) = 0 FROM inbox WHERE state NOT IN ('processed', 'ignored')", installation.superuser)


NEXT_RELEASE = """
    ALTER TABLE billing_subscriptions ADD COLUMN tax_region text;
    ALTER TABLE billing_customers ADD COLUMN tier text;
    ALTER TABLE inbox ADD COLUMN trace text;
    UPDATE alembic_version SET version_num = 'a_later_one';
"""


async def test_scenario_80_an_older_release_works_on_over_a_newer_schema(installation: Installation) -> None:
    """The columns of the next release come first, filled by its worker alone: the older one beside it leaves them be,
    and of two readings the later loses, whichever release it came from."""
    customer = await installation.subscriber()
    subscription = customer.subscribe("team")
    await customer.settled()
    await installation.superuser.execute(NEXT_RELEASE)
    async with httpx.AsyncClient(base_url=installation.settings.base_url) as web:
        assert (await web.get("/readyz")).status_code == 200
    await installation.superuser.execute("UPDATE billing_subscriptions SET tax_region = 'written by the next release'")
    customer.change_to(subscription, "business")
    await customer.settled()
    assert await customer.plan() == "business"

    await _leave_to_our_hands(customer)
    steps = Steps(installation.resources, customer)
    held = await steps.claim()
    seen = await steps.fetch(held)
    by_the_next = "UPDATE billing_customers SET sync_version = sync_version + 1, tier = 'b' WHERE id = $1"
    await installation.superuser.execute(by_the_next, held.id)
    assert await steps.apply(held, seen) is False, "an older release wrote over a newer one's reading"
    await steps.lose_lease()
    assert await steps.synchronize()
    assert (await customer.row())["tier"] == "b"
    kept = "SELECT tax_region FROM billing_subscriptions WHERE stripe_id = $1"
    assert await installation.superuser.fetchval(kept, subscription["id"]) == "written by the next release"


async def _leave_to_our_hands(customer: Subscriber) -> None:
    """Dirty, and not due for the worker."""
    await customer.superuser.execute(
        "UPDATE billing_customers SET dirty_gen = dirty_gen + 1, next_attempt_at = now() + $2::interval"
        " WHERE stripe_customer_id = $1",
        customer.customer, THEN,
    )  # fmt: skip
