"""What the API does wrong when the knobs say so; each from a stream of chance that its seed repeats."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from infra.sandbox.stripe.idempotency import Answer
from infra.sandbox.stripe.store import Account, Obj, StripeError

LOOK_SECONDS = 0.05


class CutOff(Response):
    """A connection that ends in the middle of the answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})


@dataclass(frozen=True)
class Plan:
    """What happens to one request."""

    refusal: StripeError | None = None
    before: bool = False
    after: bool = False
    cut_off: bool = False


def latency(account: Account) -> float:
    """Seconds that this answer takes longer."""
    with account.lock:
        return account.knobs.between("api_latency")


async def hold(account: Account, seconds: float) -> None:
    """Let a call wait, but no longer than until somebody turns a knob: a Stripe that is well again holds nobody."""
    knobs, ends = account.knobs, time.monotonic() + seconds
    while account.knobs is knobs and (left := ends - time.monotonic()) > 0:
        await asyncio.sleep(min(left, LOOK_SECONDS))


def plan(account: Account, *, is_change: bool) -> Plan:
    """Draw the faults of one request; failures after the effect are for requests that have one."""
    with account.lock:
        busy, before, after, lost = map(
            account.knobs.strikes, ("api_429", "api_error_before", "api_error_after", "api_lost")
        )
    refusal = None
    if busy:
        text = "This object cannot be accessed right now because another API request is currently accessing it."
        refusal = StripeError(text, status=429, code="lock_timeout")
    return Plan(refusal, before, is_change and after, is_change and lost)


def server_error() -> Answer:
    return Answer.of(500, {"error": {"type": "api_error", "message": "An unknown error occurred"}})


def garbled(account: Account, answer: Obj, params: Obj) -> Obj:
    """A list of the customer that the knob names loses all that its objects say; any other answer stays as it is."""
    if not account.knobs.garbled or params.get("customer") != account.knobs.garbled or "data" not in answer:
        return answer
    return answer | {"data": [{"id": one["id"], "object": one["object"]} for one in answer["data"]]}
