"""Between Stripe's yes and our reading of it: nobody is told "done" above a page that still shows how it was."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.server import StripeStandIn
from tests.features.billing.buyer import Buyer
from tests.features.billing.conftest import MakeBuyer, Subscribe
from tests.support.servers import RunningWorker

LATER = """
    UPDATE billing_customers SET dirty_gen = dirty_gen + $2, next_attempt_at = now() + interval '1 hour'
    WHERE organization_id = $1
"""
FIRST_CALL, SECOND_CALL = 192, 185
"""Seeds of chance by which the first call fails, or the second one meets a busy Stripe, and none of the next ones."""
ASKED: dict[str, dict[str, str]] = {"portal": {}, "checkout": {"plan": "team"}}
UNDONE = {
    "change": "UPDATE entitlements SET plan = 'team' WHERE organization_id = $1",
    "cancellation": """
        UPDATE billing_subscriptions SET cancel_at = NULL, cancel_at_period_end = false WHERE organization_id = $1
    """,
    "resumption": "UPDATE billing_subscriptions SET cancel_at_period_end = true WHERE organization_id = $1",
}


async def send(ada: Buyer, verb: str) -> httpx.Response:
    if verb == "change":
        return await ada.change("business")
    if verb == "resumption":
        await ada.send("cancellation")
    return await ada.send(verb)


@pytest.mark.parametrize("verb", UNDONE)
async def test_a_change_that_our_copy_does_not_show_yet_is_still_on_its_way(
    verb: str, buyer: MakeBuyer, subscriber: Subscribe
) -> None:
    ada = await buyer()
    customer = await subscriber(organization=ada.person.organization_id)
    customer.subscribe("team")
    await customer.settled()
    place = (await send(ada, verb)).headers["location"]
    await customer.settled()
    await ada.superuser.execute(LATER, ada.person.organization_id, 1)
    await ada.superuser.execute(UNDONE[verb], ada.person.organization_id)
    waiting = await ada.client.get(place)
    assert "Your change is on its way" in waiting.text
    assert waiting.headers["refresh"] == "4"
    await ada.superuser.execute(LATER, ada.person.organization_id, -1)
    assert (await ada.client.get(place)).headers["location"] == "/billing", "everything was read: it waits for nothing"


@pytest.mark.parametrize("verb", ASKED)
async def test_scenario_44_a_page_that_stripe_failed_to_open_can_be_asked_for_again_at_once(
    verb: str, buyer: MakeBuyer, stripe: StripeStandIn
) -> None:
    """Stripe repeats its 500 for the same key: people watched a page that could only end in a refusal, for 40 s."""
    ada = await buyer()
    await ada.send("portal")  # makes the customer
    stripe.knobs = StripeKnobs(api_error_after=1)
    answer = await ada.send(verb, **ASKED[verb])
    assert answer.headers["location"] == "/billing"
    assert "Nothing was changed and nothing charged; try again in a few minutes." in await ada.shown()
    stripe.knobs = StripeKnobs()
    answer = await ada.send(verb, **ASKED[verb])
    assert answer.headers["location"].startswith(f"{stripe.address}/{verb}/")


@pytest.mark.parametrize("verb", ASKED)
async def test_scenario_43_a_page_whose_address_was_lost_opens_as_soon_as_it_is_known(
    verb: str, buyer: MakeBuyer, stripe: StripeStandIn, worker: RunningWorker
) -> None:
    ada = await buyer()
    await ada.send("portal")
    stripe.knobs = StripeKnobs(api_lost=1)
    place = (await ada.send(verb, **ASKED[verb])).headers["location"]
    assert "Stripe has not answered" in (await ada.client.get(place)).text
    stripe.knobs = StripeKnobs()
    deadline = time.monotonic() + 60
    while (answer := await ada.client.get(place)).status_code == 200:
        assert time.monotonic() < deadline, "nobody asked again"
        await asyncio.sleep(0.1)
    assert answer.headers["location"].startswith(f"{stripe.address}/{verb}/")
    await ada.superuser.execute(
        "UPDATE billing_operations SET created_at = now() - interval '11 minutes' WHERE organization_id = $1",
        ada.person.organization_id,
    )
    assert (await ada.client.get(place)).headers["location"] == "/billing", "a tab from yesterday opens no page"


async def test_scenario_46_an_earlier_checkout_page_that_is_busy_is_closed_a_moment_later(
    buyer: MakeBuyer, stripe: StripeStandIn
) -> None:
    stripe.knobs = StripeKnobs(drop=1)  # a reading in between would draw some of the chance
    ada = await buyer()
    first = await ada.choose("team")
    stripe.knobs = StripeKnobs(api_429=0.3, seed=SECOND_CALL, drop=1)
    assert await ada.choose("team") != first
    assert stripe.account.store.get("checkout.session", first)["status"] == "expired"


async def test_scenario_44_one_500_for_the_very_first_call_refuses_nobodys_purchase(
    buyer: MakeBuyer, stripe: StripeStandIn
) -> None:
    """Stripe kept the 500 under the key of the new customer, and the first four clicks ended with it."""
    ada = await buyer()
    stripe.knobs = StripeKnobs(api_error_before=0.3, seed=FIRST_CALL, drop=1)
    assert await ada.choose("team")
