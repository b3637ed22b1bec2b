"""What a call to Stripe's API says when the line breaks, the answer is none, or the answer is no."""

from __future__ import annotations

import asyncio
import time

import pytest
from pydantic import SecretStr

from service.core.settings import Settings
from service.integrations.stripe import client as door
from service.integrations.stripe.client import StripeApi
from service.integrations.stripe.errors import (
    StripeAbsent,
    StripeFailed,
    StripeMisconfigured,
    StripeRefused,
)
from service.integrations.stripe.pace import Urgency
from tests.integrations.conftest import Peer
from tests.integrations.tiny_stripe import KEY, Stripe, away, refused


async def test_a_read_is_tried_again_when_the_line_breaks(far: Stripe, api: StripeApi) -> None:
    far.hangs_up(2).says({"id": "cus_1"})
    assert await api.call("get", "/v1/customers/cus_1") == {"id": "cus_1"}
    assert len(far.seen) == 3
    far.answers.clear()
    far.hangs_up()
    assert await away(api.call("get", "/v1/customers/cus_1")) == ("connection", True, 1)
    assert len(far.seen) == 6


@pytest.mark.parametrize("key", ["op:1", None])
async def test_a_write_is_sent_once_whatever_happens(far: Stripe, api: StripeApi, key: str | None) -> None:
    """Sent again under another key it would be charged twice; the stored operation decides what comes next."""
    far.hangs_up().says({"id": "sub_1"})
    assert await away(api.call("post", "/v1/subscriptions", {}, key=key)) == ("connection", True, 1)
    assert len(far.seen) == 1


async def test_who_was_never_reached_did_nothing() -> None:
    """Nobody listens on port 9: the operation may be tried with a new key, or given up."""
    api = StripeApi(Settings(stripe_secret_key=SecretStr(KEY), stripe_api_base="http://127.0.0.1:9"))
    assert await away(api.call("post", "/v1/subscriptions")) == ("connection", False, 1)
    await api.aclose()


async def test_the_deadline_is_for_everything_together(
    far: Stripe, api: StripeApi, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drip of bytes resets a timeout per read for ever."""
    monkeypatch.setattr(door, "DEADLINE", 0.3)

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    dripping = StripeApi(far.settings.model_copy(update={"stripe_api_base": f"http://127.0.0.1:{await peer(drip)}"}))
    far.hang = asyncio.Event()
    for each in (dripping, api):
        began = time.perf_counter()
        assert await away(each.call("post", "/v1/refunds", key="op:1")) == ("deadline", True, 1)
        assert time.perf_counter() - began < 3
    await dripping.aclose()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[1]",
        b"7",
        b'{"id": NaN}',
        b'{"id": "\xff"}',
        b"[" * 5_000 + b"]" * 5_000,
        b'{"id": "%s"}' % (b"x" * 9_000_000),
    ],
    ids=["empty", "html", "array", "number", "NaN", "no text", "deep", "flood"],
)
async def test_an_answer_that_is_none_may_have_had_its_effect(far: Stripe, api: StripeApi, body: bytes) -> None:
    far.says(body)
    assert await away(api.call("post", "/v1/refunds", key="op:1")) == ("garbled", True, 1)


@pytest.mark.parametrize(
    "body", [b"", b"<html>bad gateway", b'{"error": 5}', b'{"error": []}', b"[]", b'{"error": "x"}']
)
async def test_an_error_that_is_none_is_an_outage(far: Stripe, api: StripeApi, body: bytes) -> None:
    far.says(body, 502)
    reason, sent, _ = await away(api.call("post", "/v1/refunds", key="op:1"))
    assert reason in ("server_error", "garbled")
    assert sent


RETRY = {"retry_after": "7"}


@pytest.mark.parametrize(
    ("status", "headers", "fields", "expected"),
    [
        (500, {}, {"type": "api_error"}, ("server_error", True, 1)),
        (503, RETRY, {"type": "api_error"}, ("server_error", True, 1)),
        (429, {}, {"code": "rate_limit"}, ("limited", False, 1)),
        (429, RETRY, {"code": "lock_timeout"}, ("limited", False, 7)),
        (429, {"retry_after": "999999"}, {}, ("limited", False, 60)),
        (429, {"retry_after": "Fri, 31 Dec 1999 23:59:59 GMT"}, {}, ("limited", False, 1)),
        (400, {}, {"code": "rate_limit"}, ("limited", False, 1)),
        (409, {}, {"code": "idempotency_key_in_use"}, ("conflict", True, 1)),
    ],
)
async def test_try_again_later(
    far: Stripe, api: StripeApi, status: int, headers: dict[str, str], fields: dict[str, str], expected: object
) -> None:
    far.error(status, headers, **fields)
    assert await away(api.call("post", "/v1/refunds", key="op:1")) == expected


@pytest.mark.parametrize(
    ("status", "fields", "kind"),
    [
        (402, {"code": "card_declined", "decline_code": "insufficient_funds"}, StripeRefused),
        (400, {"code": "parameter_invalid_integer", "param": "quantity"}, StripeRefused),
        (400, {"type": "idempotency_error"}, StripeRefused),
        (404, {"code": "resource_missing", "param": "id"}, StripeAbsent),
        (404, {"code": "resource_missing", "param": "subscription"}, StripeAbsent),
        (400, {"code": "resource_missing", "param": "customer"}, StripeAbsent),
        (404, {"code": "not_found"}, StripeAbsent),
        # Not absences: our own mistakes, which must not read as "the customer is gone".
        (400, {"code": "resource_missing", "param": "items[0][price]"}, StripeRefused),
        (404, {"type": "invalid_request_error"}, StripeRefused),
        (
            404,
            {
                "code": "resource_missing",
                "param": "id",
                "message": "No such thing; a similar object exists in live mode",
            },
            StripeMisconfigured,
        ),
        (401, {"type": "invalid_request_error"}, StripeMisconfigured),
        (403, {"code": "more_permissions_required"}, StripeMisconfigured),
    ],
)
async def test_no_is_told_apart(
    far: Stripe, api: StripeApi, status: int, fields: dict[str, str], kind: type[StripeFailed]
) -> None:
    secret_words = {"message": "Ann's card was declined"} | fields
    far.says({"error": secret_words}, status)
    found = await refused(api.call("get", "/v1/customers/cus_1"))
    assert type(found) is kind
    assert "Ann" not in str(found), "what Stripe writes about people must not reach a log by accident"
    if isinstance(found, StripeRefused):
        assert (found.status, found.param, found.decline_code) == (
            status, fields.get("param", ""), fields.get("decline_code", ""),
        )  # fmt: skip
        assert found.code == (fields.get("code") or fields.get("type"))
        assert found.message == secret_words["message"]


async def test_scenario_73_an_outage_opens_the_breaker_and_one_call_closes_it(far: Stripe, api: StripeApi) -> None:
    """An hour of outage costs each caller nothing after the first five, and says when to ask again."""
    far.error(500)
    for _ in range(5):
        assert (await away(api.call("get", "/v1/customers/cus_1")))[0] == "server_error"
    reason, sent, retry_after = await away(api.call("post", "/v1/refunds", key="op:1"))
    assert (reason, sent, retry_after) == ("open", False, 5)
    assert len(far.seen) == 5
    # Its gauge is also that of the worker's own door, which may be open; that it tells is proven with another name.
    assert api._breaker.name == "stripe"
    assert api.away
    api._breaker._clock = lambda: time.monotonic() + 6
    far.answers.clear()
    far.says({"id": "cus_1"})
    assert await api.call("get", "/v1/customers/cus_1") == {"id": "cus_1"}
    assert not api.away


async def test_refusals_do_not_open_the_breaker(far: Stripe, api: StripeApi) -> None:
    far.error(402, code="card_declined")
    for _ in range(8):
        assert isinstance(await refused(api.call("post", "/v1/subscriptions", key="op:1")), StripeRefused)
    assert len(far.seen) == 8


@pytest.mark.parametrize("status", [409, 429])
async def test_whoever_asks_for_a_moment_is_not_away(status: int, far: Stripe, api: StripeApi) -> None:
    """One customer's object was locked by our own other call, and everybody's billing was "paused" for it."""
    far.error(status, code="lock_timeout")
    for _ in range(8):
        await away(api.call("post", "/v1/subscriptions", key="op:1"))
    assert len(far.seen) == 8
    assert not api.away


async def test_scenario_73_while_sweeps_hang_people_get_through(far: Stripe, api: StripeApi) -> None:
    far.says({"id": "cus_1"})
    far.hang = asyncio.Event()
    sweeps = [asyncio.create_task(api.call("get", "/v1/events", urgency=Urgency.SWEEP)) for _ in range(12)]
    while len(far.seen) < 6:
        await asyncio.sleep(0.01)
    person = asyncio.create_task(api.call("get", "/v1/customers/cus_1"))
    while len(far.seen) < 7:
        await asyncio.sleep(0.01)
    assert far.seen[-1][1] == "/v1/customers/cus_1"
    far.hang.set()
    await person
    await asyncio.gather(*sweeps)
    assert len(far.seen) == 13
