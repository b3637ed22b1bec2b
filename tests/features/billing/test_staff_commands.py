"""`python -m service billing ...`, as an operator runs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import pytest

from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.server import StripeStandIn
from service.core.context import Resources
from service.core.ids import new_id
from tests.features.billing.lone import MakeLone
from tests.support.processes import command
from tests.support.stripe import Subscriber

pytest_plugins = ("tests.guardrails.durability", "tests.features.billing.alone")
Billing: TypeAlias = Callable[..., Awaitable[tuple[int | None, str]]]


@pytest.fixture
def billing(alone: Resources) -> Billing:
    """A command of an operator in the world where nothing else moves: no worker mends what a command shall find."""
    given = alone.settings
    variables = {
        "DATABASE_URL": given.database_url.get_secret_value(),
        "DATABASE_OWNER_URL": given.database_owner_url.get_secret_value(),
        "DATABASE_MAINTENANCE_URL": given.database_maintenance_url.get_secret_value(),
        "STRIPE_API_BASE": given.stripe_api_base,
        "STRIPE_SECRET_KEY": given.stripe_secret_key.get_secret_value(),
    }

    async def run(*words: str) -> tuple[int | None, str]:
        return await command("billing", *words, **variables)

    return run


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


async def test_diff_and_resync_of_one_customer(lone: MakeLone, billing: Billing) -> None:
    customer = await lone()
    subscription = customer.subscribe("team")
    await customer.heard()
    await customer.settled()
    assert await billing("diff", "--customer", customer.customer) == (0, "no difference in 1 customers\n")
    await spoil(customer)
    code, told = await billing("diff", "--customer", customer.customer)
    assert (code, told.splitlines()) == (
        1,
        [f"{customer.customer} {subscription['id']} status: past_due here, active at Stripe"],
    )
    for asked in (("--customer", customer.customer), ("--organization", str(customer.organization))):
        await spoil(customer)
        assert await billing("resync", *asked) == (0, "1 customers will be read again\n")
        await customer.settled()
        assert await status(customer) == "active"


async def test_a_mistyped_customer_is_not_called_equal(lone: MakeLone, billing: Billing) -> None:
    await (await lone()).settled()
    code, told = await billing("diff", "--customer", "cus_nobody")
    assert (code, told) == (1, "cus_nobody is the customer of no organization here; check the id and the mode.\n")


async def test_a_resync_says_whom_and_finds_somebody(billing: Billing) -> None:
    code, told = await billing("resync")
    assert code == 2
    assert "--customer, --organization and --all" in told
    assert (await billing("resync", "--customer", "cus_1", "--all"))[0] == 2
    assert await billing("resync", "--customer", "cus_nobody") == (1, "0 customers will be read again\n")
    assert (await billing("resync", "--organization", str(new_id())))[0] == 1


async def test_scenario_75_everybody_from_the_shell(lone: MakeLone, billing: Billing) -> None:
    customers = [await lone() for _ in range(2)]
    for customer in customers:
        customer.subscribe("team")
        await customer.heard()
        await customer.settled()
        await spoil(customer)
    code, told = await billing("resync", "--all")
    assert code == 0
    assert int(told.split()[0]) >= 2
    for customer in customers:
        await customer.settled()
        assert await status(customer) == "active"


async def test_reconcile_names_the_drift_and_has_it_mended(lone: MakeLone, billing: Billing) -> None:
    customer = await lone()
    subscription = customer.subscribe("team")
    await customer.heard()
    await customer.settled()
    await spoil(customer)
    code, told = await billing("reconcile", "--settle", "0.2")
    lines = dict(line.split(": ", 1) for line in told.splitlines() if line.startswith(("ok", "FAIL")))
    assert code == 1
    assert subscription["id"] in lines["FAIL state_differs"]
    await customer.settled()
    assert await status(customer) == "active"


async def test_stripe_that_is_away_is_one_sentence(lone: MakeLone, own_stripe: StripeStandIn, billing: Billing) -> None:
    customer = await lone()
    await customer.settled()
    own_stripe.knobs = StripeKnobs(api_error_before=1)
    code, told = await billing("diff", "--customer", customer.customer)
    assert (code, told) == (2, "Stripe gave no answer: server_error\n")
