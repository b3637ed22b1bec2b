"""A Stripe stand-in per test, Stripe's own library talking to it, and a webhook that listens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from stripe import StripeClient

from infra.sandbox.stripe.server import StripeStandIn
from tests.sandbox.stripe.business import Business, open_business
from tests.sandbox.stripe.receiver import Receiver
from tests.sandbox.stripe.shop import Person, Shop


@pytest.fixture
def stand_in() -> Iterator[StripeStandIn]:
    with StripeStandIn(seed=7) as running:
        yield running


@pytest.fixture
def client(stand_in: StripeStandIn) -> StripeClient:
    return StripeClient(stand_in.secret_key, base_addresses={"api": stand_in.address}, max_network_retries=0)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def shop(client: StripeClient) -> Shop:
    return Shop(client)


@pytest.fixture
def person() -> Iterator[Person]:
    someone = Person()
    yield someone
    someone.http.close()


@pytest.fixture
def business(stand_in: StripeStandIn, client: StripeClient) -> Business:
    return open_business(stand_in, client)
