"""`python -m service billing ...`, as an operator runs it."""

from __future__ import annotations

from infra.sandbox.stripe.server import StripeStandIn
from service.core.ids import new_id
from tests.features.billing.conftest import Subscribe
from tests.support.processes import command
from tests.support.stripe import Subscriber


async def spoil(customer: Subscriber) -> None:
    await customer.superuser.execute(
        "UPDATE billing_subscriptions SET status = 'past_due', digest = 'spoilt' WHERE organization_id = $1",
        customer.organization,
    )


async def status(customer: Subscriber) -> str:
    found = await customer.superuser.fetchval(
        "SELECT status FROM billing_subscriptions WHERE organization_id = $1", customer.organization
    )
    return str(found)


async def test_diff_and_resync_of_one_customer(subscriber: Subscribe) -> None:
    customer = await subscriber()
    subscription = customer.subscribe("team")
    await customer.settled()
    assert await command("billing", "diff", "--customer", customer.customer) == (0, "no difference in 1 customers\n")
    await spoil(customer)
    code, told = await command("billing", "diff", "--customer", customer.customer)
    assert (code, told.splitlines()) == (
        1,
        [f"{customer.customer} {subscription['id']} status: past_due here, active at Stripe"],
    )
    for asked in (("--customer", customer.customer), ("--organization", str(customer.organization))):
        await spoil(customer)
        assert await command("billing", "resync", *asked) == (0, "1 customers will be read again\n")
        await customer.settled()
        assert await status(customer) == "active"


async def test_a_mistyped_customer_is_not_called_equal(subscriber: Subscribe) -> None:
    await (await subscriber()).settled()
    code, told = await command("billing", "diff", "--customer", "cus_nobody")
    assert (code, told) == (1, "cus_nobody is the customer of no organization here; check the id and the mode.\n")


async def test_a_resync_says_whom_and_finds_somebody() -> None:
    code, told = await command("billing", "resync")
    assert code == 2
    assert "--customer, --organization and --all" in told
    assert (await command("billing", "resync", "--customer", "cus_1", "--all"))[0] == 2
    assert await command("billing", "resync", "--customer", "cus_nobody") == (1, "0 customers will be read again\n")
    assert (await command("billing", "resync", "--organization", str(new_id())))[0] == 1


async def test_scenario_75_everybody_from_the_shell(subscriber: Subscribe) -> None:
    customers = [await subscriber() for _ in range(2)]
    for customer in customers:
        customer.subscribe("team")
    for customer in customers:
        await customer.settled()
        await spoil(customer)
    code, told = await command("billing", "resync", "--all")
    assert code == 0
    assert int(told.split()[0]) >= 2
    for customer in customers:
        await customer.settled(60)
        assert await status(customer) == "active"


async def test_reconcile_names_the_drift_and_has_it_mended(subscriber: Subscribe) -> None:
    customer = await subscriber()
    subscription = customer.subscribe("team")
    await customer.settled()
    await spoil(customer)
    code, told = await command("billing", "reconcile", "--settle", "0.2")
    lines = dict(line.split(": ", 1) for line in told.splitlines() if line.startswith(("ok", "FAIL")))
    assert code == 1
    assert subscription["id"] in lines["FAIL state_differs"]
    await customer.settled()
    assert await status(customer) == "active"


async def test_stripe_that_is_away_is_one_sentence(subscriber: Subscribe, connected: StripeStandIn) -> None:
    customer = await subscriber()
    await customer.settled()
    connected.knobs = connected.knobs.model_copy(update={"api_error_before": 1.0})
    code, told = await command("billing", "diff", "--customer", customer.customer)
    assert (code, told) == (2, "Stripe gave no answer: server_error\n")
