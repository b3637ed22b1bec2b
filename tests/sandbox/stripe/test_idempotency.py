"""Idempotency keys and the faults that make them necessary."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import stripe
from stripe import RequestOptions, StripeClient

from infra.sandbox.stripe import idempotency
from infra.sandbox.stripe.server import StripeStandIn
from tests.sandbox.stripe.business import DAY, Business

KEY: RequestOptions = {"idempotency_key": "operation-1"}


@pytest.fixture
def turn(stand_in: StripeStandIn) -> Callable[..., None]:
    """Turn knobs over HTTP, as a person would; without any, put all back."""

    def turn_knobs(**knobs: Any) -> None:
        if knobs:
            assert httpx.post(f"{stand_in.address}/api/knobs", json=knobs).status_code == 200
        else:
            httpx.delete(f"{stand_in.address}/api/knobs")

    return turn_knobs


def test_the_same_key_and_parameters_replay_the_answer(client: StripeClient) -> None:
    first = client.v1.customers.create({"name": "Ada"}, KEY)
    again = client.v1.customers.create({"name": "Ada"}, KEY)

    assert again.id == first.id
    assert again.last_response
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert len(client.v1.customers.list().data) == 1


def test_the_same_key_with_other_parameters_is_an_error(client: StripeClient) -> None:
    client.v1.customers.create({"name": "Ada"}, KEY)

    with pytest.raises(stripe.IdempotencyError) as refused:
        client.v1.customers.create({"name": "Bob"}, KEY)

    assert refused.value.http_status == 400
    assert [one.name for one in client.v1.customers.list().data] == ["Ada"]


def test_a_key_in_flight_is_a_conflict(
    stand_in: StripeStandIn, client: StripeClient, turn: Callable[..., None]
) -> None:
    turn(api_latency_min=0.5, api_latency_max=0.5)
    started = threading.Barrier(2)

    def create() -> int:
        started.wait()
        try:
            client.v1.customers.create({"name": "Ada"}, KEY)
        except stripe.StripeError as error:
            return int(error.http_status or 0)
        return 200

    with ThreadPoolExecutor(2) as pool:
        codes = [pool.submit(create) for _ in range(2)]

    assert sorted(one.result() for one in codes) == [200, 409]
    turn()
    assert len(client.v1.customers.list().data) == 1


def test_an_error_of_the_callers_is_kept_too(client: StripeClient) -> None:
    params: Any = {"customer": "cus_x", "items": [{"price": "price_x"}]}
    seen = []
    for _ in range(2):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            client.v1.subscriptions.create(params, KEY)
        seen.append(refused.value.headers or {})

    assert ["Idempotent-Replayed" in one for one in seen] == [False, True]


def test_parameters_that_cannot_be_are_no_answer_that_is_kept(client: StripeClient) -> None:
    """Nothing had begun: docs.stripe.com/api/idempotent_requests says that only what began is kept."""
    with pytest.raises(stripe.InvalidRequestError, match="Missing required param"):
        client.v1.subscriptions.create({"customer": "cus_x"}, KEY)

    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        client.v1.subscriptions.create({"customer": "cus_x", "items": [{"price": "price_x"}]}, KEY)


def test_a_500_after_the_effect_is_replayed_and_the_effect_happened_once(
    client: StripeClient, turn: Callable[..., None]
) -> None:
    turn(api_error_after=1)
    with pytest.raises(stripe.APIError):
        client.v1.customers.create({"name": "Ada"}, KEY)
    turn()

    with pytest.raises(stripe.APIError) as replayed:
        client.v1.customers.create({"name": "Ada"}, KEY)

    assert "Idempotent-Replayed" in (replayed.value.headers or {})
    assert len(client.v1.customers.list().data) == 1


def test_a_500_before_the_effect_is_replayed_and_nothing_happened(
    client: StripeClient, turn: Callable[..., None]
) -> None:
    turn(api_error_before=1)
    with pytest.raises(stripe.APIError):
        client.v1.customers.create({"name": "Ada"}, KEY)
    turn()

    with pytest.raises(stripe.APIError):
        client.v1.customers.create({"name": "Ada"}, KEY)

    assert client.v1.customers.list().data == []


def test_a_lost_answer_is_there_when_asked_for_again(client: StripeClient, turn: Callable[..., None]) -> None:
    turn(api_lost=1)
    with pytest.raises(stripe.APIConnectionError):
        client.v1.customers.create({"name": "Ada"}, KEY)
    turn()

    found = client.v1.customers.create({"name": "Ada"}, KEY)

    assert found.last_response
    assert found.last_response.headers["Idempotent-Replayed"] == "true"
    assert [one.id for one in client.v1.customers.list().data] == [found.id]


def test_an_answer_that_comes_late_has_had_its_effect(
    stand_in: StripeStandIn, client: StripeClient, turn: Callable[..., None]
) -> None:
    turn(api_answer_late=1.0)
    with ThreadPoolExecutor() as threads:
        making = threads.submit(client.v1.customers.create, {"name": "Ada"})
        while not client.v1.customers.list().data:
            assert not making.done(), "the answer was there before the effect"
        assert not making.done()
        assert making.result().name == "Ada"


def test_a_turn_of_a_knob_lets_go_whoever_is_held(client: StripeClient, turn: Callable[..., None]) -> None:
    turn(api_latency_min=60, api_latency_max=60)
    with ThreadPoolExecutor() as threads:
        making = threads.submit(client.v1.customers.create, {"name": "Ada"})
        with pytest.raises(TimeoutError):
            making.result(0.5)
        turn()
        assert making.result(20).name == "Ada"


def test_a_busy_object_is_not_an_answer_that_is_kept(client: StripeClient, turn: Callable[..., None]) -> None:
    turn(api_429=1)
    with pytest.raises(stripe.RateLimitError) as busy:
        client.v1.customers.create({"name": "Ada"}, KEY)
    assert busy.value.error
    assert busy.value.error.code == "lock_timeout"
    turn()

    assert client.v1.customers.create({"name": "Ada"}, KEY).name == "Ada"


def test_reading_has_no_effect_to_fail_after(client: StripeClient, turn: Callable[..., None]) -> None:
    turn(api_error_after=1, api_lost=1)

    assert client.v1.customers.list().data == []


def test_a_key_is_free_again_after_a_day_of_the_machines(business: Business, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept by the account's clock, a test that let four days pass had an unknown refund made twice."""
    ada = business.client.v1.customers.create({"name": "Ada"}, KEY)
    business.wait(5 * DAY)
    assert business.client.v1.customers.create({"name": "Ada"}, KEY).id == ada.id

    business.stand_in.account.kept_answers.clear()
    monkeypatch.setattr(idempotency, "KEPT_SECONDS", -1)
    ada = business.client.v1.customers.create({"name": "Ada"}, KEY)
    assert business.client.v1.customers.create({"name": "Bob"}, KEY).id != ada.id
    assert len(business.stand_in.account.kept_answers) == 1, "no answer is kept for ever"


def test_an_event_names_the_key_that_caused_it(client: StripeClient) -> None:
    client.v1.customers.create({"name": "Ada"}, KEY)

    request = client.v1.events.list().data[0].request
    assert request
    assert request.idempotency_key == KEY["idempotency_key"]


def test_faults_repeat_with_their_seed(client: StripeClient, turn: Callable[..., None]) -> None:
    def run() -> str:
        turn(api_error_before=0.5, seed=11)
        codes = ""
        for _ in range(12):
            try:
                client.v1.customers.list()
                codes += "."
            except stripe.APIError:
                codes += "x"
        turn()
        return codes

    first = run()
    assert run() == first
    assert {"x", "."} == set(first)
