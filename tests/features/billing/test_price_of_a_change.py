"""What a change costs is Stripe's to say, at a moment that is ours to say: the form only brings it back."""

from __future__ import annotations

import pytest

from tests.features.billing.conftest import MakeBuyer, Subscribe

HOUR = 3_600


@pytest.mark.parametrize("trick", ["the end of the period", "two hours ago"])
async def test_nobody_chooses_the_moment_that_a_change_is_charged_from(
    trick: str, buyer: MakeBuyer, subscriber: Subscribe
) -> None:
    """From the last second of the period on, the larger plan cost nothing, and was there for the whole of it."""
    ada = await buyer()
    customer = await subscriber(organization=ada.person.organization_id)
    subscription = customer.subscribe("team")
    await customer.settled()
    end = int(subscription["items"]["data"][0]["current_period_end"])
    moment = end - 1 if trick == "the end of the period" else ada.now() - 2 * HOUR
    answer = await ada.change("business", proration_date=moment)
    assert answer.headers["location"] == "/billing"
    assert "Look at what the change costs now" in await ada.shown()
    assert ada.subscriptions()[0]["items"]["data"][0]["price"]["unit_amount"] == 1_200
    await ada.change("business")
    assert ada.charged() == [1_200, 1_700]
