"""The whole chain: a change at Stripe, its deliveries, the inbox, a worker, our copy; disturbed in every way."""

from __future__ import annotations

from tests.features.billing.conftest import Subscribe


async def test_a_subscription_becomes_a_plan(subscriber: Subscribe) -> None:
    customer = await subscriber()
    customer.subscribe("team")
    await customer.settled()
    assert await customer.plan() == "team"
