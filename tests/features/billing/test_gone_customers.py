"""Customers that Stripe does not know: deleted there, which is for ever, or another account's, which is our mistake."""

from __future__ import annotations

from infra.sandbox.stripe import customers
from infra.sandbox.stripe.server import StripeStandIn
from service.core.context import Resources
from service.features.billing.flows.bulk import read_in_bulk
from service.features.billing.flows.synchronize import synchronize_now
from tests.features.billing.lone import MakeLone

pytest_plugins = ("tests.guardrails.durability", "tests.features.billing.alone")


async def test_the_key_of_another_account_ends_nobodys_plan(
    lone: MakeLone, own_stripe: StripeStandIn, alone: Resources
) -> None:
    """To that account every customer of ours is unknown: all had their plan ended, a mail about it, and no way back."""
    customer = await lone()
    customer.subscribe("team")
    await customer.heard()
    before = await customer.settled()
    kept = own_stripe.account.store.kinds["customer"].pop(customer.customer)
    assert not await synchronize_now(alone, before["id"], within=1)
    row = await customer.row()
    own_stripe.account.store.kinds["customer"][customer.customer] = kept
    assert (await customer.plan(), row["deleted_at"], row["failures"]) == ("team", None, 0)
    await customer.superuser.execute("UPDATE billing_customers SET next_attempt_at = now() WHERE id = $1", row["id"])
    await customer.settled()
    told = "SELECT count(*) FROM billing_effects WHERE organization_id = $1"
    assert await customer.superuser.fetchval(told, customer.organization) == 0


async def test_scenario_31_a_deleted_customer_stays_deleted_whatever_is_read_later(
    lone: MakeLone, own_stripe: StripeStandIn, alone: Resources
) -> None:
    """A page of subscriptions still lists those that ended with it: the next purchase was made for a customer that is
    gone, or, where there was a second one already, nothing could be written any more."""
    customer = await lone()
    customer.subscribe("team")
    await customer.heard()
    await customer.settled()
    with own_stripe.account.lock:
        customers.delete(own_stripe.account, {}, customer.customer)
    await customer.heard()
    deleted_at = (await customer.settled())["deleted_at"]
    assert deleted_at is not None
    row = await customer.superuser.fetchrow(
        "UPDATE billing_customers SET dirty_gen = dirty_gen + 1, dirty_since = now(),"
        " next_attempt_at = now() + interval '1 hour' WHERE stripe_customer_id = $1 RETURNING *",
        customer.customer,
    )
    await read_in_bulk(alone, many=0)
    after = await customer.row()
    await customer.superuser.execute("UPDATE billing_customers SET next_attempt_at = now() WHERE id = $1", row["id"])
    assert (after["sync_version"], after["deleted_at"]) == (row["sync_version"] + 1, deleted_at)
    await customer.settled()
