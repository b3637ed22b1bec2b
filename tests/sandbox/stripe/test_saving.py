"""A stand-in that keeps its account goes on where it ended."""

from __future__ import annotations

from pathlib import Path

import pytest
from stripe import StripeClient

from infra.sandbox.errors import SandboxError
from infra.sandbox.stripe.server import StripeStandIn
from tests.sandbox.stripe.business import HOUR, item, open_business


def client_of(stand_in: StripeStandIn) -> StripeClient:
    return StripeClient(stand_in.secret_key, base_addresses={"api": stand_in.address})


def test_a_second_run_goes_on_where_the_first_ended(tmp_path: Path) -> None:
    file = tmp_path / "stripe.json"
    with StripeStandIn(state=file) as first:
        business = open_business(first, client_of(first))
        subscription = business.subscribe()
        business.wait(10 * HOUR)
        time = first.account.now()

    with StripeStandIn(state=file) as second:
        business.stand_in, business.client = second, client_of(second)
        assert second.account.now() >= time
        assert business.now(subscription).to_dict() == subscription.to_dict()
        business.client.v1.prices.update(business.basic.id, {"nickname": "new"})
        assert item(business.now(subscription)).price.nickname == "new"
        business.wait_for_renewal(subscription, after=HOUR)
        assert business.latest_invoice(subscription).billing_reason == "subscription_cycle"
        assert business.latest_invoice(subscription).status == "paid"
        assert business.customer().id not in (str(subscription.customer), business.basic.id)


def test_what_was_done_is_kept_before_the_end(tmp_path: Path) -> None:
    file = tmp_path / "stripe.json"
    with StripeStandIn(state=file) as running:
        made = client_of(running).v1.customers.create({"name": "Ada"}).id
        for _ in range(400):
            if file.exists() and made in file.read_text():
                break
            client_of(running).v1.customers.list()
        assert made in file.read_text()


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "stripe.json"
    file.write_text('{"kinds": {')

    with pytest.raises(SandboxError, match=r"stripe\.json is damaged; run `make reset`"):
        StripeStandIn(state=file)


def test_without_a_file_every_run_is_new(tmp_path: Path) -> None:
    with StripeStandIn() as stand_in:
        client_of(stand_in).v1.customers.create({})
    with StripeStandIn() as stand_in:
        assert client_of(stand_in).v1.customers.list().data == []
