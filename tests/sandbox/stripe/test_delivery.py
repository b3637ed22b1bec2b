"""Delivery over real sockets: signatures, retries, and every disturbance the knobs know."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
from stripe import Webhook

from infra.sandbox.stripe import delivery, endpoints, events
from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.records import Delivery
from infra.sandbox.stripe.server import StripeStandIn
from tests.sandbox.stripe.receiver import Receiver


@pytest.fixture
def secret(stand_in: StripeStandIn, receiver: Receiver) -> str:
    """The receiver is registered for everything."""
    return str(endpoints.add(stand_in.account, receiver.url)["secret"])


def emit(stand_in: StripeStandIn, count: int = 1) -> list[str]:
    obj: dict[str, Any] = {"object": "invoice", "customer": "cus_1"}
    return [events.emit(stand_in.account, "invoice.paid", obj | {"id": f"in_{n}"})["id"] for n in range(count)]


def delivered(receiver: Receiver) -> list[str]:
    return [one.event["id"] for one in receiver.received]


def of(stand_in: StripeStandIn, event_id: str) -> list[Delivery]:
    found = stand_in.account.events.get(event_id)
    assert found
    return found.deliveries


def test_stripes_library_accepts_the_delivery(stand_in: StripeStandIn, receiver: Receiver, secret: str) -> None:
    stand_in.account.clock.advance(90 * 86_400)
    (sent,) = emit(stand_in)
    assert stand_in.account.courier.settle()
    (one,) = receiver.received
    event = Webhook.construct_event(one.body, one.signature, secret)
    assert (event.id, event.type, event.pending_webhooks) == (sent, "invoice.paid", 1)
    assert event.created - time.time() > 89 * 86_400, "the account's time; the signature's is the machine's"
    assert stand_in.account.events.get(sent).pending == 0  # type: ignore[union-attr]
    (attempt,) = of(stand_in, sent)[0].attempts
    assert (attempt.status, attempt.answer) == (200, "answer 200")
    assert attempt.milliseconds > 0


@pytest.mark.parametrize("status", [302, 400, 500, 503])
def test_anything_but_a_2xx_is_tried_again_with_a_fresh_signature(
    stand_in: StripeStandIn, receiver: Receiver, secret: str, status: int
) -> None:
    stand_in.knobs = StripeKnobs(retry_factor=1.1 / delivery.LADDER[0])
    receiver.answers.extend([status])
    (sent,) = emit(stand_in)
    assert stand_in.account.courier.settle()
    first, second = receiver.received
    assert first.body == second.body
    assert first.signature != second.signature
    assert second.at - first.at >= 1.0, "the first step of the ladder, scaled"
    assert second.is_signed_with(secret)
    assert [one.status for one in of(stand_in, sent)[0].attempts] == [status, 200]


def test_after_the_last_step_of_the_ladder_it_is_given_up(
    stand_in: StripeStandIn, receiver: Receiver, secret: str
) -> None:
    stand_in.knobs = StripeKnobs(retry_factor=0)
    receiver.answers.extend([500] * 50)
    (sent,) = emit(stand_in)
    assert stand_in.account.courier.settle()
    assert len(receiver.received) == len(delivery.LADDER) + 1
    assert of(stand_in, sent)[0].state == "failed"
    assert sum(delivery.LADDER) < 3 * 86_400


def test_nobody_listening_is_a_failed_attempt(stand_in: StripeStandIn) -> None:
    stand_in.knobs = StripeKnobs(retry_factor=0)
    with Receiver() as gone:
        endpoints.add(stand_in.account, gone.url)
    (sent,) = emit(stand_in)
    assert stand_in.account.courier.settle()
    (one,) = of(stand_in, sent)
    assert one.attempts[0].status is None
    assert "ConnectError" in one.attempts[0].problem


def test_a_receiver_that_hangs_is_given_up_and_holds_up_nobody_else(
    stand_in: StripeStandIn, receiver: Receiver
) -> None:
    stand_in.knobs = StripeKnobs(receiver_timeout=1.5, retry_factor=1)
    with Receiver() as hanging:
        hanging.hang = 30
        slow = endpoints.add(stand_in.account, hanging.url)["id"]
        endpoints.add(stand_in.account, receiver.url)
        began = time.monotonic()
        sent = emit(stand_in, 40)
        while len(receiver.received) < 40 and time.monotonic() - began < 15:
            time.sleep(0.02)
        assert sorted(delivered(receiver)) == sorted(sent)
        assert stand_in.account.courier.settle(15, retries=False)
        tried = [one for event_id in sent for one in of(stand_in, event_id) if one.endpoint.id == slow]
        assert {one.attempts[0].problem for one in tried} == {"no answer within 1.5 s"}
        starts = sorted(one.attempts[0].started for one in tried)
        crowds = [sum(begun <= start < begun + 1.5 for start in starts) for begun in starts]
        assert max(crowds) == delivery.WIDTH, "calls open at the same time"


def test_a_full_queue_loses_deliveries_and_says_so(
    stand_in: StripeStandIn, receiver: Receiver, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "LONGEST_QUEUE", 5)
    stand_in.knobs = StripeKnobs(delay_min=0.5, delay_max=0.5)
    sent = emit(stand_in, 8)
    assert stand_in.account.courier.settle()
    assert sorted(delivered(receiver)) == sorted(sent[:5])
    assert "lost: 5 deliveries were waiting" in of(stand_in, sent[7])[0].attempts[0].problem


def test_delay_holds_every_event_back(stand_in: StripeStandIn, receiver: Receiver, secret: str) -> None:
    stand_in.knobs = StripeKnobs(delay_min=0.3, delay_max=0.4)
    began = time.time()
    emit(stand_in, 5)
    assert stand_in.account.courier.settle()
    assert all(0.3 <= one.at - began < 1.5 for one in receiver.received)


def test_duplicates_are_the_same_bytes_twice(stand_in: StripeStandIn, receiver: Receiver, secret: str) -> None:
    stand_in.knobs = StripeKnobs(duplicate=1, duplicate_within=0.2)
    sent = emit(stand_in, 5)
    assert stand_in.account.courier.settle()
    assert sorted(delivered(receiver)) == sorted(sent * 2)
    assert len({one.body for one in receiver.received}) == 5


def test_the_reorder_window_lets_neighbours_overtake_each_other(
    stand_in: StripeStandIn, receiver: Receiver, secret: str
) -> None:
    stand_in.knobs = StripeKnobs(serial=True, reorder_window=0.3)
    sent = emit(stand_in, 20)
    assert stand_in.account.courier.settle()
    assert delivered(receiver) != sent
    assert sorted(delivered(receiver)) == sorted(sent)


def test_serial_keeps_the_order_and_one_call_at_a_time(
    stand_in: StripeStandIn, receiver: Receiver, secret: str
) -> None:
    stand_in.knobs = StripeKnobs(serial=True)
    receiver.hang = 0.01
    sent = emit(stand_in, 30)
    assert stand_in.account.courier.settle()
    assert (delivered(receiver), receiver.most_open) == (sent, 1)


def test_without_serial_many_calls_are_open_at_once(stand_in: StripeStandIn, receiver: Receiver, secret: str) -> None:
    receiver.hang = 0.2
    emit(stand_in, 20)
    assert stand_in.account.courier.settle()
    assert receiver.most_open > 5


def test_a_bad_signature_is_refused_and_the_retry_draws_again(
    stand_in: StripeStandIn, receiver: Receiver, secret: str
) -> None:
    stand_in.knobs = StripeKnobs(bad_signature=1)
    (sent,) = emit(stand_in)
    assert stand_in.account.courier.settle()
    assert not receiver.received[0].is_signed_with(secret)
    assert of(stand_in, sent)[0].attempts[0].remark == "signed with a wrong secret"
    stand_in.knobs = StripeKnobs(bad_signature=0.5, retry_factor=0)
    receiver.received.clear()
    receiver.answers.extend([400] * 400)
    emit(stand_in, 40)
    assert stand_in.account.courier.settle()
    good: dict[str, list[bool]] = {}
    for one in receiver.received:
        good.setdefault(one.event["id"], []).append(one.is_signed_with(secret))
    assert [len(each) for each in good.values()] == [10] * 40
    assert all(len(set(each)) == 2 for each in good.values()), "no event is always good or always bad"


def test_the_same_seed_repeats_the_same_faults(stand_in: StripeStandIn, receiver: Receiver, secret: str) -> None:
    def run(seed: int) -> list[tuple[int, list[str], bool]]:
        stand_in.knobs = StripeKnobs(seed=seed, drop=0.3, duplicate=0.3, bad_signature=0.3)
        sent = emit(stand_in, 60)
        assert stand_in.account.courier.settle()
        return [
            (
                len(of(stand_in, one)),
                [each.state for each in of(stand_in, one)],
                bool(of(stand_in, one)[0].attempts[0].remark),
            )
            for one in sent
        ]

    first = run(5)
    assert first == run(5)
    assert first != run(6)
    stand_in.knobs = StripeKnobs(seed=5, drop=0.3)
    fates = [of(stand_in, one)[0].state == "lost" for one in emit(stand_in, 60)]
    assert fates == [states[0] == "lost" for _, states, _ in first], "other knobs do not shift a knob's chance"


def test_a_resend_reaches_an_endpoint_that_lost_the_event(
    stand_in: StripeStandIn, receiver: Receiver, secret: str
) -> None:
    stand_in.knobs = StripeKnobs(drop=1)
    (sent,) = emit(stand_in)
    assert stand_in.account.courier.settle()
    assert receiver.received == []
    assert httpx.post(f"{stand_in.address}/events/{sent}/resend").status_code == 303
    assert stand_in.account.courier.settle(5)
    assert delivered(receiver) == [sent]
    assert receiver.received[0].is_signed_with(secret)
    assert [(one.why, one.state) for one in of(stand_in, sent)] == [("event", "lost"), ("resend", "accepted")]
    assert httpx.post(f"{stand_in.address}/events/evt_none/resend").status_code == 404


def test_settling_says_so_when_it_took_too_long(stand_in: StripeStandIn, receiver: Receiver, secret: str) -> None:
    stand_in.knobs = StripeKnobs(retry_factor=1)
    receiver.answers.append(500)
    emit(stand_in)
    courier = stand_in.account.courier
    assert (courier.settle(0.5), courier.pending()) == (False, 1)
    assert (courier.settle(5, retries=False), courier.pending()) == (True, 1)


def test_a_storm_is_through_within_seconds(stand_in: StripeStandIn, receiver: Receiver, secret: str) -> None:
    sent = emit(stand_in, 1_000)
    assert stand_in.account.courier.settle(200)  # a few; minutes beside a whole suite on a borrowed machine
    assert sorted(delivered(receiver)) == sorted(sent)


def test_an_endpoint_that_goes_away_ends_its_retries(stand_in: StripeStandIn, receiver: Receiver, secret: str) -> None:
    stand_in.knobs = StripeKnobs(retry_factor=0.3 / delivery.LADDER[0])
    receiver.answers.extend([500] * 20)
    (sent,) = emit(stand_in)
    assert stand_in.account.courier.settle(0.2) is False
    (endpoint_id,) = stand_in.account.endpoints
    endpoints.delete(stand_in.account, {}, endpoint_id)
    assert stand_in.account.courier.settle(5)
    assert of(stand_in, sent)[0].state == "failed"
    assert len(receiver.received) == 1


def test_an_event_that_cannot_be_rendered_says_so_and_holds_up_nothing(
    stand_in: StripeStandIn, receiver: Receiver
) -> None:
    stand_in.knobs = StripeKnobs(retry_factor=0)
    endpoints.add(stand_in.account, receiver.url, api_version="2020-08-27")
    broken = {"id": "sub_1", "object": "subscription", "items": {}}
    sent = events.emit(stand_in.account, "customer.subscription.updated", broken)["id"]
    emit(stand_in)
    assert stand_in.account.courier.settle(5)
    assert receiver.types == ["invoice.paid"]
    assert of(stand_in, sent)[0].state == "failed"
    assert "the stand-in failed: KeyError" in of(stand_in, sent)[0].attempts[0].problem
