"""The door: one round trip, the right session, the right bucket. While Redis is away: test_gate_without_redis."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from starlette.requests import Request

from service.core import telemetry
from service.core.context import Login, Resources
from service.core.errors import TooManyRequests
from service.guardrails import gate, sessions
from service.guardrails.rate_limits import LOGIN, Policy, limit
from service.guardrails.sessions import SessionRotated
from tests.guardrails.instances import later, log_in, request

# By the hour, so that nothing comes back while a slow machine is still counting.
TIGHT = Policy("tight", "open", address="3/hour", headers=True)
PERSONAL = Policy("personal", "open", address="100/hour", user="6/hour")


@limit(TIGHT)
def tight() -> None: ...


@limit(PERSONAL)
def personal() -> None: ...


@limit(Policy("none", "open"))
def probe() -> None: ...


async def admitted(resources: Resources, times: int, **values: Any) -> int:
    through = 0
    for _ in range(times):
        try:
            await gate.enter(request(**values), resources)
            through += 1
        except TooManyRequests:
            continue
    return through


async def sent(monitor: Any) -> list[str]:
    """The commands that clients sent before a final PING."""
    words: list[str] = []
    while True:
        line = await monitor.next_command()
        word = line["command"].split(" ", 1)[0].upper()
        if word == "PING":
            return words
        if line["client_type"] != "lua" and word not in ("HELLO", "CLIENT"):  # a new connection's greeting
            words.append(word)


# It works


async def test_the_door_finds_the_session_and_hands_it_on(here: Resources) -> None:
    token, login = await log_in(here)
    visit = request(token)
    assert await gate.enter(visit, here) == login
    assert visit.scope["state"]["login"] == login


@pytest.mark.parametrize("cookie", [None, "sid=" + "A" * 43, "sid=made-up", "sid=" + "%00" * 15])
async def test_whoever_shows_no_session_of_ours_is_nobody(here: Resources, cookie: str | None) -> None:
    visit = request(cookie=cookie)
    assert await gate.enter(visit, here) is None
    assert "login" not in visit.scope["state"]


async def test_a_public_page_does_not_look_for_a_session(here: Resources) -> None:
    token, _ = await log_in(here)
    visit = request(token)
    assert await gate.enter(visit, here, identify=False) is None
    assert "login" not in visit.scope["state"]


async def test_the_answer_to_a_parallel_request_with_the_old_id_is_to_repeat_it(here: Resources) -> None:
    old, login = await log_in(here)
    new, _ = await sessions.rotate(here, login)
    with pytest.raises(SessionRotated):
        await gate.enter(request(old), here)
    assert await gate.enter(request(new), here)
    later(seconds=11)
    assert await gate.enter(request(old), here) is None


async def test_a_request_costs_one_round_trip(here: Resources) -> None:
    token, _ = await log_in(here)
    await gate.enter(request(token), here)
    async with here.redis.monitor() as monitor:
        await gate.enter(request(token), here)
        await here.redis.ping()
        assert await sent(monitor) == ["EVALSHA"]


async def test_a_traced_request_shows_its_visit_to_redis(here: Resources) -> None:
    spans = InMemorySpanExporter()
    telemetry.configure_tracing(here.settings, spans)
    try:
        for sampled in ("00", "01"):
            with telemetry.root_span("GET /", SpanKind.SERVER, f"00-{'a' * 32}-{'b' * 16}-{sampled}"):
                await gate.enter(request(), here)
    finally:
        await telemetry.stop_tracing()
        telemetry.configure_tracing(here.settings)
    assert [span.name for span in spans.get_finished_spans()] == ["redis gate.enter", "GET /"]


async def test_a_probe_costs_none(here: Resources) -> None:
    async with here.redis.monitor() as monitor:
        assert await gate.enter(request(endpoint=probe), here) is None
        await here.redis.ping()
        assert await sent(monitor) == []


async def test_a_server_that_has_forgotten_our_scripts_is_told_again(here: Resources) -> None:
    token, login = await log_in(here)
    await here.redis.script_flush()
    assert await gate.enter(request(token), here) == login


async def test_the_limit_of_an_included_route_is_found(here: Resources) -> None:
    """FastAPI wraps included routers: a middleware that looked at app.routes limited nothing on them."""

    async def through_the_door(visit: Request) -> Login | None:
        return await gate.enter(visit, here)

    inner, outer, app = APIRouter(prefix="/inner"), APIRouter(prefix="/outer"), FastAPI()

    @inner.get("/{number}")
    @limit(TIGHT)
    async def shown(number: int, login: Any = Depends(through_the_door, scope="function")) -> int:
        return number

    outer.include_router(inner)
    app.include_router(outer)

    async def with_address(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": {"address": "203.0.113.7"}}, receive, send)

    transport = httpx.ASGITransport(with_address, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        statuses = [(await client.get(f"/outer/inner/{number}")).status_code for number in range(5)]
    assert statuses == [200, 200, 200, 500, 500], "the error's rendering is not part of this app"


# Limits


async def test_an_address_is_refused_when_it_asks_too_often(here: Resources) -> None:
    assert await admitted(here, 9, endpoint=tight) == 3
    assert await admitted(here, 9, endpoint=tight, address="198.51.100.1") == 3
    assert await admitted(here, 9) == 9, "another policy has buckets of its own"
    later(minutes=61)
    assert await admitted(here, 9, endpoint=tight) == 3
    one_household = [f"2001:db8:1:2::{n:x}" for n in range(9)]
    assert sum([await admitted(here, 1, endpoint=tight, address=address) for address in one_household]) == 3


async def test_a_person_has_one_limit_wherever_they_are(here: Resources) -> None:
    token, _ = await log_in(here)
    through = [await admitted(here, 1, token=token, endpoint=personal, address=f"198.51.100.{n}") for n in range(9)]
    assert sum(through) == 6
    assert await admitted(here, 9, endpoint=personal) == 9, "without a session the address alone counts"


async def test_a_made_up_cookie_buys_no_fresh_limit(here: Resources) -> None:
    made_up = [f"sid={n:043d}" for n in range(9)]
    assert sum([await admitted(here, 1, endpoint=tight, cookie=cookie) for cookie in made_up]) == 3
    believing = [Policy(f"bites-{cookie}", "open", address="3/hour") for cookie in made_up]  # a bucket per credential
    assert sum([await admitted(here, 1, endpoint=limit(one)(lambda: None)) for one in believing]) == 9


async def test_the_answer_says_what_is_left_except_where_guessing_is_the_attack(here: Resources) -> None:
    visits = [request(endpoint=tight) for _ in range(2)]
    for visit in visits:
        await gate.enter(visit, here)
    told = [dict(gate.headers(visit.scope)) for visit in visits]
    assert [one[b"x-ratelimit-limit"] for one in told] == [b"3", b"3"]
    assert [one[b"x-ratelimit-remaining"] for one in told] == [b"2", b"1"]
    assert 0 <= int(told[1][b"x-ratelimit-reset"]) - time.time() <= 2402
    over = request(endpoint=tight)
    await gate.enter(request(endpoint=tight), here)
    with pytest.raises(TooManyRequests) as caught:
        await gate.enter(over, here)
    assert 0 < (caught.value.retry_after or 0) <= 1200
    assert dict(gate.headers(over.scope))[b"x-ratelimit-remaining"] == b"0"
    secretive = request(method="POST", endpoint=limit(LOGIN)(lambda: None))
    await gate.enter(secretive, here)
    assert gate.headers(secretive.scope) == []
    assert gate.headers({"type": "http"}) == []
