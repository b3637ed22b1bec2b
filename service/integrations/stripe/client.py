"""Every call to Stripe's API: paced, bounded in time and size, behind a breaker, and never repeated by surprise.

How to use: `await stripe.call("get", "/v1/customers/cus_1")`; what writes passes `key`, the idempotency key that was
stored before (docs.stripe.com/api/idempotent_requests). Answers are plain dicts at the pinned API version, errors those
of `errors.py`. Call it with no transaction open: it may take DEADLINE seconds and more.

Limits: a POST is sent once. Whether its effect happened is then a question for whoever stored its key.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import orjson
import stripe
from opentelemetry.trace import SpanKind

from service.core import clock, telemetry
from service.core.insecurities import SANDBOX_STRIPE, STRIPE
from service.core.regions import everywhere
from service.core.settings import Settings
from service.guardrails.cards import without_cards
from service.guardrails.circuit_breaker import CircuitBreaker, CircuitOpen
from service.integrations.http import authorities
from service.integrations.stripe.errors import StripeAway, StripeFailed, StripeMisconfigured, failure
from service.integrations.stripe.pace import Pace, Urgency

REACH = everywhere("one Stripe account for the whole business; see its transfer mechanism")

API_VERSION = "2026-10-28.endive"
DEADLINE = 10.0
MOST_BYTES = 8 * 1024 * 1024
PAGE = 100
BUSY = ("limited", "conflict")
BUSY_PAUSES = (0.3, 0.8, 2.0)
PAUSES = (0.1, 0.3)
"""Seconds, more or less, before a read is tried again whose connection broke."""
UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class StripeApi:
    """One per process; a resource."""

    def __init__(self, settings: Settings) -> None:
        key, base = settings.stripe_secret_key.get_secret_value(), settings.stripe_api_base
        # The sandbox's key is known to the stand-in alone: without its address there is nobody to ask.
        self.enabled = settings.billing_enabled and bool(base or SANDBOX_STRIPE not in key)
        self.answered_at: datetime | None = None
        """The last good answer to this process."""
        self._pace = Pace()
        self._breaker = CircuitBreaker("stripe", counts=(StripeAway, TimeoutError))
        self._courier = _Courier()
        self._client = stripe.StripeClient(
            key,
            stripe_version=API_VERSION,
            max_network_retries=0,
            base_addresses={"api": base.rstrip("/") or STRIPE},
            http_client=self._courier,
        )

    async def call(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        urgency: Urgency = Urgency.PERSON,
    ) -> dict[str, Any]:
        """Ask, and answer with the object; raises StripeFailed."""
        if not self.enabled:
            raise StripeMisconfigured("billing is off: STRIPE_SECRET_KEY is not set")
        began, outcome = time.perf_counter(), "cancelled"
        try:
            with telemetry.span(f"Stripe {method.upper()} {'/'.join(path.split('/')[:3])}", SpanKind.CLIENT):
                self._breaker.check()
                async with self._pace.turn(urgency), self._breaker, asyncio.timeout(DEADLINE):
                    answer = await self._send(method.lower(), path, dict(params or {}), key)
                if isinstance(answer, StripeAway):
                    raise answer
            outcome, self.answered_at = "ok", clock.now()
            return answer
        except CircuitOpen as error:
            outcome = "open"
            raise StripeAway(outcome, sent=False, retry_after=error.retry_after) from error
        except TimeoutError as error:
            outcome = "deadline"
            raise StripeAway(outcome, sent=True) from error
        except StripeFailed as error:
            outcome = getattr(error, "reason", type(error).__name__.removeprefix("Stripe").lower())
            raise
        finally:
            telemetry.stripe_requests.labels(outcome).inc()
            telemetry.stripe_duration.observe(time.perf_counter() - began)

    async def patiently(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        urgency: Urgency = Urgency.PERSON,
    ) -> dict[str, Any]:
        """Like `call`, tried again a few times: somebody else may hold the object (lock_timeout), or our own first try
        is still being answered. What changes nothing (no `key`) is also asked again after a 500.
        """
        reasons = BUSY if key else (*BUSY, "server_error")
        for pause in BUSY_PAUSES:
            try:
                return await self.call(method, path, params, key=key, urgency=urgency)
            except StripeAway as error:
                if error.reason not in reasons:
                    raise
            await asyncio.sleep(pause)
        return await self.call(method, path, params, key=key, urgency=urgency)

    async def every(
        self,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        urgency: Urgency = Urgency.SWEEP,
        most: int,
    ) -> AsyncIterator[dict[str, Any]]:
        """Each object of a list, page by page, newest first as Stripe sorts them; ends after `most`."""
        asked = {**(params or {}), "limit": min(PAGE, most)}
        left = most
        while left > 0:
            # One refusal must not throw away what was read already: a reading has many calls, and would never end.
            page = await self.patiently("get", path, asked, urgency=urgency)
            found = page.get("data")
            if not isinstance(found, list):
                raise StripeAway("garbled", sent=False)
            for item in found[:left]:
                yield item
            left -= len(found)
            if not page.get("has_more") or not found:
                return
            asked["starting_after"] = found[-1]["id"]

    @property
    def clock_skew(self) -> float:
        """Seconds by which our clock was ahead of Stripe's at its last answer; too much, and no webhook counts."""
        return self._courier.clock_skew

    @property
    def away(self) -> bool:
        """Whether a call would be refused at once, because Stripe has not answered lately."""
        try:
            self._breaker.check()
        except CircuitOpen:
            return True
        return False

    async def aclose(self) -> None:
        await self._courier.close_async()

    async def _send(
        self, method: str, path: str, params: dict[str, Any], key: str | None
    ) -> dict[str, Any] | StripeAway:
        """The answer; one of BUSY is returned and not raised, because to the breaker it says that Stripe is there."""
        params = in_order(params)
        if key is not None:
            params["idempotency_key"] = key
        try:
            answer = await self._client.raw_request_async(method, path, **params)
        except (AttributeError, UnicodeDecodeError) as error:
            # An error that is none, or bytes that are no text: the library looks into both all the same.
            raise StripeAway("garbled", sent=True) from error
        except stripe.StripeError as error:
            status = error.http_status or 0
            if 200 <= status < 300:
                raise StripeAway("garbled", sent=True) from error
            failed = failure(status, error.json_body, error.headers or {})
            if isinstance(failed, StripeAway) and failed.reason in BUSY:
                return failed
            raise failed from error
        try:
            found = orjson.loads(answer.body)
        except orjson.JSONDecodeError as error:
            raise StripeAway("garbled", sent=True) from error
        if not isinstance(found, dict):
            raise StripeAway("garbled", sent=True)
        return found


class _Courier(stripe.HTTPClient):
    """The library's transport, with an end to what is read, no proxies from the environment and no redirects."""

    name = "httpx"

    def __init__(self) -> None:
        super().__init__()
        self.clock_skew = 0.0
        self._http = httpx.AsyncClient(trust_env=False, timeout=DEADLINE, verify=authorities())

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        pauses = list(PAUSES) if method == "get" else []
        while True:
            try:
                async with self._http.stream(method, url, headers=headers, content=post_data) as answer:
                    body = bytearray()
                    async for part in answer.aiter_bytes():
                        body += part
                        if len(body) > MOST_BYTES:
                            raise StripeAway("garbled", sent=True)
                    self._compare_clocks(answer.headers.get("date", ""))
                    return without_cards(bytes(body)), answer.status_code, answer.headers
            except httpx.HTTPError as error:
                if not pauses:
                    raise StripeAway("connection", sent=not isinstance(error, UNSENT)) from error
            await asyncio.sleep(pauses.pop(0) * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret

    async def close_async(self) -> None:
        await self._http.aclose()

    def _compare_clocks(self, date: str) -> None:
        with suppress(ValueError):
            self.clock_skew = (clock.now() - parsedate_to_datetime(date)).total_seconds()
            telemetry.stripe_clock_skew.set(self.clock_skew)


def in_order(params: Any) -> Any:
    """The same bytes whether they were just made or come back from PostgreSQL, whose jsonb sorts keys its own way.

    Stripe refuses the same key with other bytes, and nobody would find out what became of the call.
    """
    if isinstance(params, dict):
        return {name: in_order(params[name]) for name in sorted(params)}
    return [in_order(one) for one in params] if isinstance(params, list) else params
