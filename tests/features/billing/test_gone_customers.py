"""Customers that Stripe does not know: deleted there, which is for ever, or another account's, which is our mistake."""

from __future__ import annotations

from infra.sandbox.stripe import customers
from infra.sandbox.stripe.server import StripeStandIn
from service.core.context import Resources
from service.features.billing.flows.bulk import read_in_bulk
from service.features.billing.flows.synchronize import synchronize_now
from tests.features.billing.conftest import Subscribe


async def test_the_key_of_another_account_ends_nobodys_plan(
    subscriber: Subscribe, connected: StripeStandIn, resources: Resources
) -> None:
    """To that account every customer of ours is unknown: all had their plan ended, a mail about it, and no way back."""
    customer = await subscriber()
    customer.subscribe("team")
    before = await customer.settled()
    kept = connected.account.store.kinds["customer"].pop(customer.customer)
    assert not await synchronize_now(resources, before["id"], within=1)
    row = await customer.row()
    connected.account.store.kinds["customer"][customer.customer] = kept
    assert (await customer.plan(), row["deleted_at"], row["failures"]) == ("team", None, 0)
    await customer.superuser.execute("UPDATE billing_customers SET next_attempt_at = now() WHERE id = $1", row["id"])
    await customer.settled()
    told = "SELECT count(*) FROM billing_effects WHERE organization_id = $1"
    assert await customer.superuser.fetchval(told, customer.organization) == 0


async def test_scenario_31_a_deleted_customer_stays_deleted_whatever_is_read_later(
    subscriber: Subscribe, connected: StripeStandIn, resources: Resources
) -> None:
    """A page of subscriptions still lists those that ended with it: the next purchase was made for a customer that is
    gone, or, where there was a second one already, nothing could be written any more."""
    customer = await subscriber()
    customer.subscribe("team")
    await customer.settled()
    with connected.account.lock:
        customers.delete(connected.account, {}, customer.customer)
    deleted_at = (await customer.settled())["deleted_at"]
    assert deleted_at is not None
    row = await customer.superuser.fetchrow(
        "UPDATE billing_customers SET dirty_gen = dirty_gen + 1, dirty_since = now(),"
        " next_attempt_at = now() + interval '1 hour' WHERE stripe_customer_id = $1 RETURNING *",
        customer.customer,
    )
    await read_in_bulk(resources, many=0)
    after = await customer.row()
    await customer.superuser.execute("UPDATE billing_customers SET next_attempt_at = now() WHERE id = $1", row["id"])
    assert (after["sync_version"], after["deleted_at"]) == (row["sync_version"] + 1, deleted_at)
    await customer.settled()
