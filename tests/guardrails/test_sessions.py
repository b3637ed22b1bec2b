"""Sessions work across instances, and end when they should. The attacks on them: test_session_attacks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.responses import Response

from infra.sandbox.redis import EmbeddedRedis
from service.core import clock, telemetry
from service.core.context import Caller, Resources
from service.core.ids import new_id
from service.core.settings import Settings
from service.guardrails import sessions
from service.guardrails.sessions import load
from tests.guardrails.instances import instance, later, log_in, request

SECURE = Settings(base_url="https://ballast.example", redis_url=SecretStr("redis://127.0.0.1:1/0"))


# It works


async def test_every_instance_knows_the_session(redis: EmbeddedRedis) -> None:
    async with instance(redis, "shared") as one, instance(redis, "shared") as other:
        token, login = await log_in(one, methods=("password", "totp"), remembered=True, epoch=7)
        assert await load(other, token) == login
        await sessions.end(other, login)
        assert await load(one, token) is None


async def test_the_cookie_cannot_be_read_by_scripts_nor_set_by_neighbours() -> None:
    response = Response()
    sessions.set_cookie(response, SECURE, "value")
    assert response.headers["set-cookie"] == "__Host-sid=value; HttpOnly; Path=/; SameSite=lax; Secure"
    remembered = Response()
    sessions.set_cookie(remembered, SECURE, "value", remembered=True)
    assert "Max-Age=2592000;" in remembered.headers["set-cookie"]
    over_http = Response()
    sessions.set_cookie(over_http, Settings(), "value")
    assert over_http.headers["set-cookie"] == "sid=value; HttpOnly; Path=/; SameSite=lax"


async def test_logging_out_clears_the_browser_too() -> None:
    response = Response()
    sessions.clear_cookie(response, SECURE)
    assert response.headers["set-cookie"].startswith('__Host-sid=""; HttpOnly; Max-Age=0; Path=/;')
    assert response.headers["clear-site-data"] == '"cache", "storage"'


@pytest.mark.parametrize(
    "cookie", ["sid=short", "sid=" + "a" * 5000, "sid=" + "a" * 43 + "; sid=" + "b" * 43, "", "x=y"]
)
def test_what_cannot_be_our_cookie_is_no_cookie(cookie: str) -> None:
    assert sessions.cookie_of(request(cookie=cookie), Settings()) is None


async def test_a_person_sees_where_they_are_logged_in(here: Resources) -> None:
    user = new_id()
    phone = Caller("r", "2001:db8:1:2::7", "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0) Version/19.0 Safari/604.1")
    await log_in(here, user, caller=phone)
    later(minutes=5)
    _, login = await log_in(here, user)
    await log_in(here)  # somebody else
    shown = [(one.label, one.region, one.current) for one in await sessions.devices(here, login)]
    assert shown == [
        ("Firefox on Linux", "203.0.113.0/24", True),
        ("Safari on iPhone", "2001:db8:1::/48", False),
    ]


def test_what_a_client_sends_is_never_shown_as_it_is() -> None:
    assert sessions.device_label("<script>alert(1)</script>") == "Unknown browser"
    assert sessions.device_label("<b>Firefox/1 Windows") == "Firefox on Windows"


async def test_the_gauge_counts_sessions_that_have_not_expired(here: Resources) -> None:
    (_, first), _, _ = [await log_in(here) for _ in range(3)]
    await sessions.end(here, first)
    assert await sessions.refresh_gauge(here) == 2
    assert telemetry.sessions_active._value.get() == 2
    later(minutes=31)
    assert await sessions.refresh_gauge(here) == 0
    await log_in(here)
    later(minutes=31)
    await log_in(here)
    everybody = f"{here.settings.redis_namespace}:active"
    assert await here.redis.zcard(everybody) == 1, "logins clear away what has expired, even if nobody reads the metric"


# Sessions end


async def test_an_unused_session_ends_and_a_used_one_lives_on(here: Resources) -> None:
    used, _ = await log_in(here)
    unused, _ = await log_in(here)
    later(minutes=20)
    assert await load(here, used)
    later(minutes=20)
    assert await load(here, used)
    assert await load(here, unused) is None


@pytest.mark.parametrize(
    ("kind", "every", "lives", "dies"),
    [
        ({}, timedelta(minutes=25), timedelta(hours=11), timedelta(hours=13)),
        ({"remembered": True}, timedelta(days=10), timedelta(days=29), timedelta(days=31)),
        ({"staff": True}, timedelta(minutes=10), timedelta(hours=7), timedelta(hours=9)),
        ({"staff": True, "remembered": True}, timedelta(minutes=10), timedelta(hours=7), timedelta(hours=9)),
    ],
)
async def test_even_a_busy_session_ends(
    here: Resources, kind: dict[str, Any], every: timedelta, lives: timedelta, dies: timedelta
) -> None:
    token, login = await log_in(here, **kind)
    passed = timedelta()
    while passed + every < dies:
        clock.advance(every)
        passed += every
        if passed <= lives:
            assert await load(here, token), passed
    clock.advance(dies - passed)
    assert await load(here, token) is None
    assert login.remembered == (kind == {"remembered": True})


async def test_staff_who_walk_away_are_logged_out_sooner(here: Resources) -> None:
    token, _ = await log_in(here, staff=True)
    later(minutes=16)
    assert await load(here, token) is None


async def test_a_session_is_written_once_a_minute_not_once_a_request(here: Resources) -> None:
    token, login = await log_in(here)
    name = f"{here.settings.redis_namespace}:s:{login.key}"
    written = [await here.redis.hget(name, "seen")]
    for seconds in (30, 29, 2, 30):
        later(seconds=seconds)
        await load(here, token)
        written.append(await here.redis.hget(name, "seen"))
    assert len(set(written)) == 2
    assert written[0] == written[2] != written[3] == written[4]


async def test_the_eleventh_session_ends_the_oldest(here: Resources) -> None:
    user, tokens = new_id(), []
    for _ in range(11):
        later(seconds=1)
        tokens.append((await log_in(here, user))[0])
    alive = [await load(here, token) is not None for token in tokens]
    assert alive == [False] + [True] * 10


async def test_ending_one_device_or_all_of_them(here: Resources) -> None:
    user = new_id()
    (mine, login), (phone, on_phone), (tablet, _) = [await log_in(here, user) for _ in range(3)]
    other, stranger = await log_in(here)
    assert await sessions.end_device(here, user, on_phone.key)
    assert not await sessions.end_device(here, user, on_phone.key)
    assert not await sessions.end_device(here, user, stranger.key), "another person's session"
    assert [await load(here, one) is not None for one in (mine, phone, tablet, other)] == [True, False, True, True]
    assert await sessions.end_all(here, user, keep=login) == 1
    assert await sessions.end_all(here, user) == 1
    assert [await load(here, one) is not None for one in (mine, tablet, other)] == [False, False, True]
