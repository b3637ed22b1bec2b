"""The door to Stripe's API against peers that hang, lie, refuse and come back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from pydantic import SecretStr

from service.core import telemetry
from service.core.settings import Settings
from service.doctor import examine
from service.integrations.stripe import client as door
from service.integrations.stripe.client import StripeApi
from service.integrations.stripe.errors import (
    StripeAbsent,
    StripeAway,
    StripeFailed,
    StripeMisconfigured,
    StripeRefused,
)
from service.integrations.stripe.pace import Urgency
from tests.integrations.conftest import Peer

KEY = "sk_test_0123456789abcdef"


class Stripe:
    """A tiny Stripe: answers in turn what it was told (the last for ever), and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: list[bytes | None] = []
        self.seen: list[tuple[str, str, dict[str, str], str]] = []
        self.hang: asyncio.Event | None = None
        self.settings = Settings()

    def says(self, body: Any, status: int = 200, **headers: str) -> Stripe:
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        lines = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(raw)}", "connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.answers.append("\r\n".join(lines).encode() + b"\r\n\r\n" + raw)
        return self

    def error(self, status: int, headers: dict[str, str] | None = None, **fields: str) -> Stripe:
        return self.says({"error": fields}, status, **(headers or {}))

    def hangs_up(self, times: int = 1) -> Stripe:
        self.answers += [None] * times
        return self

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.seen.append((method, target, headers, body.decode()))
        if self.hang is not None:
            await self.hang.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is not None:
            writer.write(answer)
            await writer.drain()


@pytest.fixture
async def far(peer: Peer) -> AsyncIterator[Stripe]:
    made = Stripe()
    address = f"http://127.0.0.1:{await peer(made.talk)}"
    made.settings = Settings(stripe_secret_key=SecretStr(KEY), stripe_api_base=address)
    yield made
    if made.hang is not None:
        made.hang.set()
    await asyncio.sleep(0)


@pytest.fixture
async def api(far: Stripe) -> AsyncIterator[StripeApi]:
    made = StripeApi(far.settings)
    yield made
    await made.aclose()


async def away(asking: Awaitable[object]) -> tuple[str, bool, int]:
    with pytest.raises(StripeAway) as found:
        await asking
    return found.value.reason, found.value.sent, found.value.retry_after


async def refused(asking: Awaitable[object]) -> StripeFailed:
    with pytest.raises(StripeFailed) as found:
        await asking
    return found.value


async def test_an_answer_is_a_plain_dict_at_the_pinned_version(far: Stripe, api: StripeApi) -> None:
    far.says({"id": "cus_1", "object": "customer", "items": {"data": [1]}, "deleted": False})
    assert await api.call("get", "/v1/customers/cus_1", {"expand": ["subscriptions"]}) == {
        "id": "cus_1", "object": "customer", "items": {"data": [1]}, "deleted": False,
    }  # fmt: skip
    [(method, target, headers, _)] = far.seen
    assert (method, target) == ("GET", "/v1/customers/cus_1?expand[0]=subscriptions")
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["stripe-version"] == "2026-10-28.endive"
    assert "idempotency-key" not in headers


async def test_a_write_carries_its_key_and_its_parameters(far: Stripe, api: StripeApi) -> None:
    far.says({"id": "sub_1"})
    items = [{"price": "price_1", "quantity": 3}]
    await api.call("POST", "/v1/subscriptions", {"customer": "cus_1", "items": items}, key="op:1")
    [(method, _, headers, body)] = far.seen
    assert (method, headers["idempotency-key"]) == ("POST", "op:1")
    assert parse_qs(body) == {"customer": ["cus_1"], "items[0][price]": ["price_1"], "items[0][quantity]": ["3"]}
    far.says({"id": "sub_1", "deleted": True})
    await api.call("delete", "/v1/subscriptions/sub_1")
    assert far.seen[-1][0] == "DELETE"


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
    assert telemetry.REGISTRY.get_sample_value("circuit_state", {"name": "stripe"}) == 2
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


def page(ids: range, *, more: bool) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": f"sub_{number}"} for number in ids], "has_more": more}


async def test_every_object_of_a_list_page_by_page(far: Stripe, api: StripeApi) -> None:
    far.says(page(range(100), more=True)).says(page(range(100, 130), more=False))
    found = [each["id"] async for each in api.every("/v1/subscriptions", {"status": "all"}, most=1_000)]
    assert found == [f"sub_{number}" for number in range(130)]
    asked = [parse_qs(urlsplit(target).query) for _, target, _, _ in far.seen]
    assert asked == [
        {"status": ["all"], "limit": ["100"]},
        {"status": ["all"], "limit": ["100"], "starting_after": ["sub_99"]},
    ]


async def test_a_list_ends_where_it_was_told_to(far: Stripe, api: StripeApi) -> None:
    far.says(page(range(100), more=True))
    assert len([each async for each in api.every("/v1/events", most=150)]) == 150
    assert len(far.seen) == 2
    far.says({"object": "list", "data": [], "has_more": True})
    far.answers.pop(0)
    assert [each async for each in api.every("/v1/events", most=150)] == []
    far.says({"object": "list"})
    far.answers.pop(0)
    assert await away(anext(api.every("/v1/events", most=1))) == ("garbled", False, 1)


async def test_outcomes_are_counted_by_what_they_mean(far: Stripe, api: StripeApi) -> None:
    def counted(outcome: str) -> float:
        return telemetry.REGISTRY.get_sample_value("stripe_requests_total", {"outcome": outcome}) or 0

    names = ("ok", "limited", "refused", "absent", "misconfigured")
    before = [counted(name) for name in names]
    far.says({}).error(429).error(402, code="card_declined").error(404, code="resource_missing", param="id").error(401)
    await api.call("get", "/v1/customers/cus_1")
    for _ in names[1:]:
        await refused(api.call("get", "/v1/customers/cus_1"))
    assert [counted(name) for name in names] == [each + 1 for each in before]


async def test_without_a_key_nobody_is_asked(far: Stripe) -> None:
    """The sandbox's key means something to the stand-in alone; the real Stripe is never asked with it."""
    api = StripeApi(Settings(stripe_api_base=""))
    assert not api.enabled
    assert isinstance(await refused(api.call("get", "/v1/events")), StripeMisconfigured)
    await api.aclose()


def in_seconds(skew: int) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=skew), usegmt=True)


@pytest.mark.parametrize(
    ("prepare", "ok", "words"),
    [
        (lambda far: far.says({"data": [{"livemode": False}]}, date=in_seconds(0)), True, "test mode"),
        (lambda far: far.says({"data": []}, date="yesterday"), True, "test mode"),
        (lambda far: far.says({"data": [{"livemode": True}]}), False, "STRIPE_LIVEMODE"),
        (lambda far: far.says({"data": []}, date=in_seconds(90)), False, "s off Stripe"),
        (lambda far: far.error(401), False, "STRIPE_SECRET_KEY"),
        (lambda far: far.hangs_up(), False, "cannot be reached"),
    ],
    ids=["fine", "no date", "mode", "clock", "key", "away"],
)
async def test_the_doctor_says_what_is_wrong_with_stripe(
    far: Stripe, settings: Settings, prepare: Callable[[Stripe], object], ok: bool, words: str
) -> None:
    prepare(far)
    billing = {name: getattr(far.settings, name) for name in ("stripe_secret_key", "stripe_api_base")}
    [finding] = [each for each in await examine(settings.model_copy(update=billing)) if each.what == "stripe"]
    assert finding.ok is ok
    assert words in finding.detail
