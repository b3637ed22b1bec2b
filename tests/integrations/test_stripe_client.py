"""The door to Stripe's API: what it sends, what it reads, what it counts, and what the doctor says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr

from service.core import telemetry
from service.core.settings import Settings
from service.doctor import examine
from service.guardrails.cards import MASK
from service.integrations.stripe.client import StripeApi
from service.integrations.stripe.errors import (
    StripeMisconfigured,
    StripeRefused,
)
from tests.integrations.tiny_stripe import KEY, Stripe, away, refused
from tests.support.apart import apart


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


async def test_no_answer_carries_a_card_number(far: Stripe, api: StripeApi) -> None:
    """Nor does a refusal: its parameter ends in our tables, its message before staff."""
    far.says({"id": "in_1", "number": "4111 1111 1111 1111", "total": 4111111111111111, "amount_due": 1200})
    far.error(400, code="parameter_invalid", param="4111111111111111", message="no card 4111111111111111")
    assert await api.call("get", "/v1/invoices/in_1") == {
        "id": "in_1", "number": MASK, "total": MASK, "amount_due": 1200,
    }  # fmt: skip
    with pytest.raises(StripeRefused) as told:
        await api.call("post", "/v1/invoices", {}, key="op:2")
    assert (told.value.param, told.value.message) == (MASK, f"no card {MASK}")


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


OUTCOMES = ("ok", "limited", "refused", "absent", "misconfigured")


async def outcomes() -> dict[str, float | None]:
    """How often each was counted, after one call that ended in each."""
    far = Stripe()
    far.says({}).error(429).error(402, code="card_declined").error(404, code="resource_missing", param="id").error(401)
    server = await asyncio.start_server(far.talk, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    api = StripeApi(Settings(stripe_secret_key=SecretStr(KEY), stripe_api_base=address))
    await api.call("get", "/v1/customers/cus_1")
    for _ in OUTCOMES[1:]:
        await refused(api.call("get", "/v1/customers/cus_1"))
    await api.aclose()
    server.close()
    name = "stripe_requests_total"
    return {outcome: telemetry.REGISTRY.get_sample_value(name, {"outcome": outcome}) for outcome in OUTCOMES}


async def test_outcomes_are_counted_by_what_they_mean() -> None:
    """Apart: the worker of other tests calls Stripe from this process, too."""
    assert await apart(outcomes) == dict.fromkeys(OUTCOMES, 1.0)


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
