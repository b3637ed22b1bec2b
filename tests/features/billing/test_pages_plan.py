"""What the plan page says when something is out of the ordinary, and to whom; and where people are sent from it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from starlette.requests import Request

from infra.sandbox.stripe import catalog
from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.server import StripeStandIn
from service.core import clock
from service.core.settings import Settings
from service.features.billing.schemas import costs
from service.guardrails.permissions import Role
from service.integrations.stripe.addresses import PAGES, is_stripe_page, stripe_origins
from service.web.formats import day, money
from service.web.responses import to_stripe
from tests.features.billing.conftest import MakeBuyer, Subscribe
from tests.support.factories import Factory
from tests.support.stripe import DECLINED, GOOD, price_of

DAY = 86_400


async def test_scenario_50_a_failed_renewal_names_the_day_and_the_ways_out(
    buyer: MakeBuyer, subscriber: Subscribe, stripe: StripeStandIn
) -> None:
    ada = await buyer()
    bob = await buyer(Role.VIEWER, ada.person.organization_id)
    customer = await subscriber(organization=ada.person.organization_id)
    customer.subscribe("team", items=[{"price": price_of(stripe, "team"), "quantity": "2"}])
    await customer.settled()
    customer.use_card(DECLINED)
    with stripe.account.lock:
        stripe.account.clock.advance(31 * DAY + 7_200)
    # A reading that began before the renewal may see the invoice of after it: whole only once all is read.
    await customer.settled()
    text = await ada.shown()
    assert "Pay €24.00 now" in text
    assert "The last payment did not go through. Everything works until" in text
    assert "Change the card" in text
    assert "Plan Team" in text
    others = await bob.shown()
    assert "The last payment did not go through." in others
    assert "Pay €" not in others
    assert "Change the card" not in others
    customer.use_card(GOOD)
    with stripe.account.lock:
        stripe.account.clock.advance(4 * DAY)
    await customer.settled()
    assert "did not go through" not in await ada.shown()


async def test_scenario_51_a_read_only_organization_is_told_that_nothing_is_lost(
    buyer: MakeBuyer, factory: Factory
) -> None:
    ada = await buyer()
    assert ada.person.organization_id is not None
    now = clock.now()
    await factory.plan(
        ada.person.organization_id, "team", full_until=now - timedelta(hours=1), valid_until=now + timedelta(days=9)
    )
    page = await ada.client.page("/billing")
    assert page.count("because a payment is due") == 1
    assert "Nothing was deleted, and everything works again as soon as it is paid." in page


async def test_scenario_48_a_trial_says_when_it_ends_and_what_it_costs_then(buyer: MakeBuyer) -> None:
    ada = await buyer()
    assert "14 days free" in await ada.shown()
    subscription = await ada.buy("team")
    text = await ada.shown()
    ends = day(datetime.fromtimestamp(subscription["trial_end"], UTC))
    assert f"Your free trial ends on {ends}. After that it costs €12.00 per month." in text
    assert "14 days free" not in text


async def test_scenario_57_a_price_that_is_not_ours_crashes_nothing(buyer: MakeBuyer, subscriber: Subscribe) -> None:
    ada = await buyer()
    customer = await subscriber(organization=ada.person.organization_id)
    customer.subscribe("team")
    await customer.settled()
    await ada.superuser.execute(
        "UPDATE billing_subscriptions SET items = jsonb_set(items, '{0,lookup_key}', 'null')"
        " WHERE organization_id = $1",
        ada.person.organization_id,
    )
    assert "arranged with us by hand" in await ada.shown()
    for plan in ("team", "business"):
        answer = await ada.client.get(f"/billing/change?plan={plan}")
        assert (answer.status_code, answer.headers.get("location")) == (303, "/billing"), answer.text[:300]


async def test_scenario_43_when_nothing_was_sent_a_person_is_told_to_try_again(
    buyer: MakeBuyer, stripe: StripeStandIn
) -> None:
    ada = await buyer()
    stripe.knobs = StripeKnobs(api_429=1)
    answer = await ada.send("checkout", plan="team")
    assert answer.headers["location"] == "/billing"
    text = await ada.shown()
    assert "Nothing was changed and nothing charged; try again in a few minutes." in text
    stripe.knobs = StripeKnobs()
    assert await ada.choose("team")


REAL = {"stripe_api_base": ""}
PLACES = ["https://checkout.stripe.com/c/pay/cs_test_1#fid", "https://billing.stripe.com/p/session/1"]
ELSEWHERE = [
    "https://checkout.stripe.com.evil.example/",
    "https://checkout.stripe.com@evil.example/",
    "https://checkout.stripe.com\\@evil.example/",
    "http://checkout.stripe.com/",
    "//checkout.stripe.com/",
    "https://stripe.com/",
    "javascript:alert(1)//https://checkout.stripe.com",
    "https://checkout.stripe.com/\r\nset-cookie: a=b",
    "/billing",
    "",
]


def asked(settings: Settings) -> Request:
    return Request({"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""})


@pytest.mark.parametrize("address", PLACES)
async def test_people_are_sent_to_stripes_pages(address: str, settings: Settings) -> None:
    real = settings.model_copy(update=REAL)
    answer = to_stripe(asked(real), real, address)
    assert (answer.status_code, answer.headers["location"]) == (303, address)
    with pytest.raises(ValueError, match="none of Stripe's pages"):
        to_stripe(asked(settings), settings, address)


@pytest.mark.parametrize("address", ELSEWHERE)
async def test_people_are_sent_nowhere_else(address: str, settings: Settings) -> None:
    real = settings.model_copy(update=REAL)
    with pytest.raises(ValueError, match="none of Stripe's pages"):
        to_stripe(asked(real), real, address)


def test_the_stand_in_is_a_place_only_where_it_is_used(settings: Settings, stripe: StripeStandIn) -> None:
    assert stripe_origins(settings) == (stripe.address,)
    assert is_stripe_page(settings, f"{stripe.address}/checkout/cs_1")
    for base in ("", "https://api.stripe.com", "https://api.stripe.com/"):
        assert stripe_origins(settings.model_copy(update={"stripe_api_base": base})) == PAGES


def test_amounts_read_as_their_currency_writes_them() -> None:
    assert money(1200, "eur") == "€12.00"
    assert money(123_456_789, "usd") == "$1,234,567.89"
    assert money(-350, "chf") == "\N{MINUS SIGN}3.50 CHF"
    assert money(500, "jpy") == "500 JPY"
    assert money(500, "ugx") == "5.00 UGX"
    assert money(12_340, "kwd") == "12.340 KWD"


def test_a_price_says_how_often_it_is_paid() -> None:
    month = {"unit_amount": 1_200, "quantity": 2, "interval": "month", "interval_count": 1}
    assert costs([month], "eur") == "€24.00 per month"
    assert costs([month | {"interval": "year"}], "eur") == "€24.00 per year"
    assert costs([month | {"interval_count": 3}], "eur") == "€24.00 every 3 months"
    yearly = {"unit_amount": 10_000, "quantity": 1, "interval": "year", "interval_count": 1}
    assert costs([month, yearly, yearly], "eur") == "€24.00 per month and €200.00 per year"
    assert costs([{"unit_amount": 500, "quantity": 1}], "usd") == "$5.00 per month", "read before we kept it"
    assert costs([{"unit_amount": None, "quantity": None, "interval": "month"}], "eur") == "€0.00 per month"


async def test_a_yearly_price_is_not_called_a_monthly_one(
    buyer: MakeBuyer, subscriber: Subscribe, stripe: StripeStandIn
) -> None:
    """Somebody was given one by hand: our plan's lookup key, moved to a price that is paid yearly."""
    ada = await buyer()
    customer = await subscriber(organization=ada.person.organization_id)
    with stripe.account.lock:
        monthly = stripe.account.store.get("price", price_of(stripe, "team"))
        yearly = catalog.add_price(
            stripe.account,
            {
                "currency": "eur",
                "unit_amount": 12_000,
                "recurring": {"interval": "year"},
                "product": monthly["product"],
                "lookup_key": "ballast_team_monthly",
                "transfer_lookup_key": "true",
            },
        )
    try:
        customer.subscribe("team", items=[{"price": yearly["id"]}])
        await customer.settled()
        assert "Price €120.00 per year" in await ada.shown()
    finally:
        with stripe.account.lock:
            catalog.update_price(
                stripe.account,
                {"lookup_key": "ballast_team_monthly", "transfer_lookup_key": "true"},
                monthly["id"],
            )
