"""What a test in another process may do to the stand-in."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from infra.sandbox.stripe import endpoints
from infra.sandbox.stripe.server import StripeStandIn
from tests.sandbox.stripe.receiver import Receiver


def post(stand_in: StripeStandIn, path: str, body: Any) -> httpx.Response:
    return httpx.post(f"{stand_in.address}/sandbox/{path}", json=body)


def test_the_clock_is_advanced_by_seconds(stand_in: StripeStandIn) -> None:
    began = stand_in.account.now()
    now = post(stand_in, "clock", {"advance": 7200}).json()["now"]
    assert 7200 <= now - began < 7210
    assert post(stand_in, "clock", {}).json()["now"] - now < 10, "without a number it only tells the time"


def test_an_event_that_nothing_caused_is_delivered_like_any_other(stand_in: StripeStandIn, receiver: Receiver) -> None:
    secret = str(endpoints.add(stand_in.account, receiver.url)["secret"])
    thin = endpoints.add(stand_in.account, receiver.url, kind="thin")
    made = post(stand_in, "events", {"type": "quantum.flipped", "object": {"id": "q_1"}, "livemode": True}).json()
    assert stand_in.account.courier.settle()
    by_kind = {one.event["object"]: one for one in receiver.received}
    assert by_kind["event"].event == made
    assert (made["type"], made["livemode"]) == ("quantum.flipped", True)
    assert by_kind["event"].is_signed_with(secret)
    assert by_kind["v2.core.event"].event["snapshot_event"] == made["id"]
    assert by_kind["v2.core.event"].is_signed_with(str(thin["secret"]))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("clock", {"advance": "soon"}),
        ("clock", [1]),
        ("events", {}),
        ("events", {"type": 1, "object": {}}),
    ],
)
def test_nonsense_is_refused(stand_in: StripeStandIn, path: str, body: Any) -> None:
    assert post(stand_in, path, body).status_code == 422


def test_the_knobs_are_turned_over_http(stand_in: StripeStandIn) -> None:
    knobs = f"{stand_in.address}/api/knobs"
    assert httpx.post(knobs, json={"drop": 0.1, "end_of_dunning": "unpaid"}).json()["drop"] == 0.1
    assert stand_in.knobs.turned == ["drop", "end_of_dunning"]
    assert httpx.post(knobs, json={"drop": 2}).status_code == 422
    assert httpx.post(knobs, json={"dorp": 0.1}).status_code == 422
    assert httpx.delete(knobs).json()["drop"] == 0
    assert stand_in.knobs.turned == []
