"""What plans.py sells and what Stripe charges are the same, or somebody is told; never a crash."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from infra.sandbox.stripe import catalog
from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.server import StripeStandIn
from infra.sandbox.stripe.store import Obj
from service.core.context import Resources
from service.core.settings import Settings
from service.doctor import examine
from service.features.billing.flows import catalogue, metrics
from service.features.billing.models.plans import CURRENCY, TEAM
from service.integrations.stripe.client import StripeApi
from tests.support.stripe import stock


@dataclass
class Shop:
    """A Stripe of its own, with prices to spoil."""

    stand_in: StripeStandIn
    settings: Settings
    api: StripeApi

    def price(self) -> Obj:
        return self.stand_in.account.store.of("price", lookup_key=TEAM.lookup_key)[0]

    def replace(self, **changes: Any) -> None:
        """Another price takes over the lookup key, as people do in the dashboard."""
        given = {
            "currency": CURRENCY, "unit_amount": TEAM.amount, "lookup_key": TEAM.lookup_key,
            "transfer_lookup_key": "true", "recurring": {"interval": "month"}, "product_data": {"name": "Team"},
        }  # fmt: skip
        with self.stand_in.account.lock:
            catalog.add_price(self.stand_in.account, given | changes)


@pytest.fixture
def other_stripe() -> Iterator[StripeStandIn]:
    with StripeStandIn() as running:
        yield running


@pytest.fixture
async def shop(other_stripe: StripeStandIn, settings: Settings) -> AsyncIterator[Shop]:
    mine = settings.model_copy(update={"stripe_api_base": other_stripe.address})
    api = StripeApi(mine)
    yield Shop(other_stripe, mine, api)
    await api.aclose()


async def test_scenario_58_prices_as_in_plans_are_no_problem(shop: Shop) -> None:
    stock(shop.stand_in)
    assert await catalogue.mismatches(shop.api) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"unit_amount": 1_100}, "unit_amount is 1100, not 1200"),
        ({"currency": "usd"}, "currency is usd, not eur"),
        ({"recurring": {"interval": "year"}}, "interval is year, not month"),
        ({"recurring": {"interval": "month", "interval_count": 3}}, "interval_count is 3, not 1"),
        ({"active": "false"}, "active is False, not True"),
        ({"recurring": {}}, "interval is None, not month"),
    ],
)
async def test_scenario_58_a_price_that_differs_is_named(shop: Shop, changes: dict[str, Any], words: str) -> None:
    stock(shop.stand_in)
    shop.replace(**changes)
    [problem] = await catalogue.mismatches(shop.api)
    assert TEAM.lookup_key in problem
    assert words in problem


async def test_scenario_58_a_missing_price_is_named_by_the_doctor_and_the_worker_goes_on(
    shop: Shop, resources: Resources
) -> None:
    problems = await catalogue.mismatches(shop.api)
    assert problems[0] == "no price in Stripe has the lookup key ballast_team_monthly: Team cannot be bought"
    assert len(problems) == 2
    told = {finding.what: finding for finding in await examine(shop.settings)}
    assert (told["prices"].ok, told["prices"].detail) == (False, "; ".join(problems))

    here = Resources(shop.settings, resources.database, resources.redis)
    here.provide(StripeApi, shop.api)
    assert await catalogue.watch(here) == catalogue.SOON_SECONDS
    assert metrics.price_mismatches._value.get() == 2
    stock(shop.stand_in)
    assert await catalogue.watch(here) == catalogue.AGAIN_SECONDS
    assert metrics.price_mismatches._value.get() == 0
    told = {finding.what: finding for finding in await examine(shop.settings)}
    assert (told["prices"].ok, told["prices"].detail) == (True, "as in plans.py")


async def test_while_stripe_is_away_nothing_is_said_about_prices(shop: Shop, resources: Resources) -> None:
    shop.stand_in.knobs = StripeKnobs(api_error_before=1)
    here = Resources(shop.settings, resources.database, resources.redis)
    here.provide(StripeApi, shop.api)
    metrics.price_mismatches.set(7)
    assert await catalogue.watch(here) == catalogue.SOON_SECONDS
    assert metrics.price_mismatches._value.get() == 7
    told = {finding.what: finding for finding in await examine(shop.settings)}
    assert told["prices"].detail == "not compared: Stripe gave no answer: server_error"


async def test_the_stand_in_is_stocked_once(shop: Shop) -> None:
    assert await catalogue.stock(shop.settings) == ["ballast_team_monthly", "ballast_business_monthly"]
    assert await catalogue.stock(shop.settings) == []
    assert await catalogue.mismatches(shop.api) == []
    real = shop.settings.model_copy(update={"stripe_api_base": ""})
    assert await catalogue.stock(real) == [], "what is sold is decided by people"
