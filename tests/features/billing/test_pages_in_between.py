"""Between Stripe's yes and our reading of it: nobody is told "done" above a page that still shows how it was."""

from __future__ import annotations

import httpx
import pytest

from tests.features.billing.buyer import Buyer
from tests.features.billing.conftest import MakeBuyer, Subscribe

LATER = """
    UPDATE billing_customers SET dirty_gen = dirty_gen + $2, next_attempt_at = now() + interval '1 hour'
    WHERE organization_id = $1
"""
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
