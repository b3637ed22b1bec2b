"""Things that happen earlier, later or faster than one expects: a webhook before the answer to the call that caused it,
money that takes days, a Stripe that has had enough. Numbers: docs/scenarios.md."""

from __future__ import annotations

import asyncio
import time

import asyncpg
import pytest

from infra.sandbox.stripe import checkout
from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.server import StripeStandIn
from service.core import telemetry
from service.core.context import Resources
from service.features.billing.flows.operations import ensure_customer
from tests.features.billing.conftest import MakeBuyer, Subscribe
from tests.features.billing.test_disturbances import until
from tests.support.factories import Factory
from tests.support.servers import RunningWorker

TIED = "SELECT count(*) FROM billing_customers WHERE organization_id = $1"


async def test_scenario_09_a_customer_is_heard_of_before_our_call_has_made_it(
    connected: StripeStandIn,
    worker: RunningWorker,
    resources: Resources,
    superuser: asyncpg.Connection[object],
    factory: Factory,
) -> None:
    """Stripe tells of the new customer while the call that made it still waits: one tie, whoever writes it first."""
    organization = await factory.organization()
    connected.knobs = StripeKnobs(api_answer_late=8)
    calling = asyncio.create_task(ensure_customer(resources, organization))
    await until(f"{TIED} HAVING count(*) = 1", superuser, organization)
    assert not calling.done(), "the answer was faster than the webhook, and this test showed nothing"
    connected.knobs = StripeKnobs()
    await calling
    assert await superuser.fetchval(TIED, organization) == 1
    done = "SELECT status = 'succeeded' FROM billing_operations WHERE organization_id = $1"
    assert await superuser.fetchval(done, organization)
    heard = """
        SELECT count(*) > 0 AND bool_and(inbox.state = 'processed') FROM inbox
        JOIN billing_customers ON subject = stripe_customer_id WHERE organization_id = $1
    """
    await until(heard, superuser, organization)


async def test_scenario_09_an_upgrade_is_heard_of_before_our_call_is_answered(
    buyer: MakeBuyer, subscriber: Subscribe, connected: StripeStandIn
) -> None:
    ada = await buyer()
    customer = await subscriber(organization=ada.person.organization_id)
    subscription = customer.subscribe("team")
    await customer.settled()
    page = await ada.client.page("/billing/change?plan=business")
    assert "Switch to Business" in page
    connected.knobs = StripeKnobs(api_answer_late=8)
    clicking = asyncio.create_task(
        ada.send("change", page="/billing", plan="business", proration_date=connected.account.now())
    )
    held = "SELECT plan = 'business' FROM entitlements WHERE organization_id = $1"
    await until(held, customer.superuser, customer.organization)
    assert not clicking.done(), "the answer was faster than the webhook, and this test showed nothing"
    connected.knobs = StripeKnobs()
    assert "You are on the Business plan now." in await ada.shown((await clicking).headers["location"])
    await customer.settled()
    rows = "SELECT array_agg(stripe_id) FROM billing_subscriptions WHERE organization_id = $1"
    assert await customer.superuser.fetchval(rows, customer.organization) == [subscription["id"]]
    given = "SELECT array_agg(plan ORDER BY id) FROM entitlement_history WHERE organization_id = $1"
    assert await customer.superuser.fetchval(given, customer.organization) == ["team", "business"]
    assert ada.charged() == [1200, 1700]


@pytest.mark.parametrize("ok", [True, False])
async def test_scenario_37_a_bank_debit_is_no_money_yet(
    ok: bool, buyer: MakeBuyer, connected: StripeStandIn, worker: RunningWorker
) -> None:
    """Checkout is "completed" and unpaid: neither the page nor the event makes a plan of that."""
    ada = await buyer()
    session = await ada.choose("business")
    with connected.account.lock:
        done = checkout.complete_by_debit(connected.account, session)
    assert (done["status"], done["payment_status"]) == ("complete", "unpaid")
    assert "being confirmed" in await ada.shown(f"/billing/success?session_id={session}")
    known = "SELECT status FROM billing_subscriptions WHERE organization_id = $1"
    assert await ada.superuser.fetchval(known, ada.person.organization_id) == "incomplete"
    heard = "SELECT count(*) = 1 FROM inbox WHERE type = $1 AND state = 'processed' AND facts ->> 'object_id' = $2"
    await until(heard, ada.superuser, "checkout.session.completed", session)
    assert "Plan Free" in await ada.shown()
    with connected.account.lock:
        checkout.debit_is_over(connected.account, session, ok=ok)
    kind = f"checkout.session.async_payment_{'succeeded' if ok else 'failed'}"
    await until(heard, ada.superuser, kind, session)
    if ok:
        await ada.until("Plan Business")
        assert "Price €29.00 per month" in await ada.shown(f"/billing/success?session_id={session}")
    else:
        assert "Plan Free" in await ada.shown()
        assert await ada.choose("team"), "who could not pay may try again"


async def test_scenario_74_a_limit_of_stripes_is_waited_out(subscriber: Subscribe, connected: StripeStandIn) -> None:
    """Many customers change at once: at our own pace, and where Stripe turns calls away all the same, nobody is given
    up."""
    customers = [await subscriber() for _ in range(20)]
    began, before = time.monotonic(), _sent("ok", "limited")
    subscriptions = [customer.subscribe("team") for customer in customers]
    for customer in customers:
        await customer.settled(60)
    elapsed, calls = time.monotonic() - began, _sent("ok", "limited") - before
    assert 20 < calls <= 8 + 5 + 20 * elapsed, "8 on their way before, then 20 a second after a burst of 5"
    connected.knobs = StripeKnobs(api_429=0.3)
    turned_away = _sent("limited")
    some = customers[:6]
    for customer, subscription in zip(some, subscriptions[:6], strict=True):
        customer.change_to(subscription, "business")
    for customer in some:
        await customer.settled(90)
    assert _sent("limited") > turned_away, "nobody was turned away"
    rows = [await customer.row() for customer in some]
    assert [(row["failures"], row["dead_at"]) for row in rows] == [(0, None)] * 6
    assert {await customer.plan() for customer in some} == {"business"}


def _sent(*outcomes: str) -> float:
    """Calls with such an outcome since this process began."""
    name = "stripe_requests_total"
    return sum(telemetry.REGISTRY.get_sample_value(name, {"outcome": outcome}) or 0.0 for outcome in outcomes)
