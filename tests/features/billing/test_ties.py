"""The tie between an organization and its customer at Stripe: made, lost, ended. Numbers: docs/scenarios.md."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from infra.sandbox.stripe import checkout, customers
from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.server import StripeStandIn
from service.guardrails.permissions import Role
from tests.features.billing.buyer import Buyer
from tests.features.billing.conftest import MakeBuyer, Subscribe
from tests.features.billing.test_disturbances import until
from tests.support.factories import Factory
from tests.support.servers import RunningWorker
from tests.support.stripe import GOOD, price_of


async def comes_true(question: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_scenario_28_a_checkout_without_a_customer_says_whose_it_is(
    connected: StripeStandIn, worker: RunningWorker, superuser: asyncpg.Connection[Any], factory: Factory
) -> None:
    """Paid through a link that sales made in the dashboard: its reference ties the customer that Stripe made."""
    organization = await factory.organization()
    asked = {
        "mode": "subscription", "success_url": "https://example.com", "client_reference_id": str(organization),
        "line_items": [{"price": price_of(connected, "business"), "quantity": 1}],
    }  # fmt: skip
    with connected.account.lock:
        session = checkout.create(connected.account, asked)
        paid = checkout.complete(connected.account, session["id"], GOOD)
    held = "SELECT plan = 'business' FROM entitlements WHERE organization_id = $1"
    await until(held, superuser, organization)
    tied = "SELECT stripe_customer_id FROM billing_customers WHERE organization_id = $1"
    assert await superuser.fetchval(tied, organization) == paid["customer"]
    await until("SELECT bool_and(state = 'processed') FROM inbox WHERE subject = $1", superuser, paid["customer"])


async def test_scenario_31_after_a_deleted_customer_the_next_checkout_makes_another(
    buyer: MakeBuyer, connected: StripeStandIn, worker: RunningWorker
) -> None:
    ada = await buyer()
    first = (await ada.buy("business"))["customer"]
    with connected.account.lock:
        customers.delete(connected.account, {}, first)
    await ada.until("Plan Free")
    await ada.buy("business")
    rows = (
        "SELECT count(*), count(*) FILTER (WHERE deleted_at IS NULL) FROM billing_customers WHERE organization_id = $1"
    )
    assert tuple(await ada.superuser.fetchrow(rows, ada.person.organization_id) or ()) == (2, 1)
    assert ada.subscriptions()[0]["customer"] != first
    assert "Plan Business" in await ada.shown()


@pytest.mark.parametrize("knobs", [{}, {"api_error_before": 1.0}])
async def test_scenario_32_a_deleted_organization_is_not_billed_any_more(
    knobs: dict[str, float], buyer: MakeBuyer, connected: StripeStandIn, worker: RunningWorker
) -> None:
    """Also one that is deleted while Stripe is away: its subscription ends as soon as Stripe hears of it."""
    ada = await _paying(buyer)
    connected.knobs = StripeKnobs(**knobs)
    name = await ada.superuser.fetchval("SELECT name FROM organizations WHERE id = $1", ada.person.organization_id)
    gone = await ada.client.submit("/organization/deletion", name=name)
    assert gone.status_code == 303, gone.text[:500]
    if knobs:
        tried = "SELECT count(*) > 0 FROM billing_operations WHERE organization_id = $1 AND attempts > 0"
        await until(tried, ada.superuser, ada.person.organization_id)
        assert ada.subscriptions()[0]["status"] == "active"
        connected.knobs = StripeKnobs()
    await comes_true(lambda: ada.subscriptions()[0]["status"] == "canceled")
    read = "SELECT status = 'canceled' FROM billing_subscriptions WHERE organization_id = $1"
    await until(read, ada.superuser, ada.person.organization_id)


async def test_scenario_56_seats_follow_the_members(
    buyer: MakeBuyer, connected: StripeStandIn, factory: Factory, worker: RunningWorker
) -> None:
    """Two are removed at once: what Stripe is told last is how many there are."""
    ada = await _paying(buyer)
    organization = ada.person.organization_id
    people = [await factory.person(Role.MEMBER, organization) for _ in range(3)]
    ids = "SELECT array_agg(id) FROM memberships WHERE user_id = ANY($1)"
    two = await ada.superuser.fetchval(ids, [person.id for person in people[:2]])
    removals = (ada.client.post(f"/members/{each}/removal", csrf=ada.client.csrf) for each in two)
    assert {answer.status_code for answer in await asyncio.gather(*removals)} == {303}
    await comes_true(lambda: ada.subscriptions()[0]["items"]["data"][0]["quantity"] == 2)


async def _paying(buyer: MakeBuyer) -> Buyer:
    ada = await buyer()
    await ada.buy("business")
    assert "Plan Business" in await ada.shown()
    return ada


async def test_scenario_56_a_quantity_that_somebody_changed_at_stripe_is_put_right(
    subscriber: Subscribe, factory: Factory
) -> None:
    """In the portal; or a member came between the Checkout page and its payment."""
    customer = await subscriber()
    await factory.person(Role.OWNER, customer.organization)
    stripe = customer.stand_in
    subscription = customer.subscribe("team", items=[{"price": price_of(stripe, "team"), "quantity": "5"}])

    def seats() -> int:
        [item] = stripe.account.store.get("subscription", subscription["id"])["items"]["data"]
        return int(item["quantity"])

    assert seats() == 5
    await comes_true(lambda: seats() == 1)


async def test_scenario_32_what_is_paid_after_a_deletion_is_ended(subscriber: Subscribe) -> None:
    """The Checkout page of a deleted organization was still open somewhere, and somebody paid."""
    customer = await subscriber()
    await customer.superuser.execute("UPDATE organizations SET deleted_at = now() WHERE id = $1", customer.organization)
    subscription = customer.subscribe("team")
    store = customer.stand_in.account.store
    await comes_true(lambda: bool(store.get("subscription", subscription["id"])["status"] == "canceled"))
