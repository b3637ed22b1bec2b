"""One call of an endpoint: the event in the shape it asked for, signed, and what came back."""

from __future__ import annotations

import asyncio
import json
import time
from random import Random

import httpx

from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.records import Attempt, Delivery
from infra.sandbox.stripe.renderings import in_version, thin
from infra.sandbox.stripe.signatures import signature

KEPT_ANSWER = 2_000


async def call(client: httpx.AsyncClient, delivery: Delivery, knobs: StripeKnobs) -> Attempt:
    """One attempt, given up after the receiver's timeout. A redirect is an answer like any other, not followed."""
    endpoint = delivery.endpoint
    body = _body(delivery)
    chance = Random(f"{delivery.luck}/{len(delivery.attempts)}").random()  # noqa: S311 - repeatable on purpose
    is_bad = delivery.why != "resend" and chance < knobs.bad_signature
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        "Stripe-Signature": signature(body, ["whsec_wrong"] if is_bad else endpoint.live_secrets, int(time.time())),
    }
    remark = "signed with a wrong secret" if is_bad else ""
    started, clock = time.time(), time.monotonic()
    status, text, problem = None, "", ""
    try:
        async with asyncio.timeout(knobs.receiver_timeout):
            async with client.stream("POST", endpoint.url, content=body, headers=headers) as answer:
                status, text = answer.status_code, await _beginning(answer)
    except TimeoutError:
        status, problem = None, f"no answer within {knobs.receiver_timeout:g} s"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        status, problem = None, f"{type(error).__name__}: {error}"
    return Attempt(started, (time.monotonic() - clock) * 1000, status, text, problem, remark)


def _body(delivery: Delivery) -> bytes:
    """The bytes to send; only an endpoint that asks for another shape costs a second rendering."""
    event, endpoint = delivery.event, delivery.endpoint
    if endpoint.kind == "thin":
        return json.dumps(thin(json.loads(event.body))).encode()
    if endpoint.api_version:
        return json.dumps(in_version(json.loads(event.body), endpoint.api_version)).encode()
    return event.body


async def _beginning(answer: httpx.Response) -> str:
    """As much of the answer as is worth showing; leaving early closes the connection."""
    kept = b""
    async for chunk in answer.aiter_bytes():
        kept += chunk
        if len(kept) >= KEPT_ANSWER:
            break
    return kept[:KEPT_ANSWER].decode(errors="replace")
