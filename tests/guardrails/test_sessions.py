"""Sessions: they work across instances, the attacks fail, and each protection bites when it is taken away.

That "end all" holds although Redis lost the deletions is the epoch's doing: see the tests of the accounts feature.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.responses import Response

from infra.sandbox.redis import EmbeddedRedis
from service.core import clock, telemetry
from service.core.context import Caller, Resources
from service.core.errors import NotAuthenticated, Unavailable
from service.core.ids import new_id
from service.core.settings import Settings
from service.guardrails import before_login, sessions
from service.guardrails.sessions import SessionRotated, load
from tests.guardrails.instances import cookies_of, hung, instance, later, log_in, request

SECURE = Settings(base_url="https://ballast.example", redis_url=SecretStr("redis://127.0.0.1:1/0"))


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis"), durable=False) as server:
        yield server


@pytest.fixture
async def here(redis: EmbeddedRedis) -> AsyncIterator[Resources]:
    async with instance(redis) as resources:
        yield resources
    clock.reset()


async def dump(resources: Resources) -> dict[str, str]:
    """All that a thief of Redis gets: every key of ours with its value, in text."""
    found: dict[str, str] = {}
    async for key in resources.redis.scan_iter(f"{resources.settings.redis_namespace}:*"):
        match await resources.redis.type(key):
            case b"hash":
                value: Any = await resources.redis.hgetall(key)
            case b"zset":
                value = await resources.redis.zrange(key, 0, -1)
            case _:
                value = await resources.redis.get(key)
        found[key.decode()] = repr(value)
    return found


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


# Attacks


async def test_an_id_planted_before_the_login_is_worth_nothing_after_it(
    here: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted, _ = await log_in(here)  # the attacker's own session, slipped into the victim's browser
    token, _ = await log_in(here, old=planted)
    assert token != planted
    with pytest.raises(SessionRotated):
        await load(here, planted)
    later(seconds=11)
    assert await load(here, planted) is None

    made_up = "A" * sessions.TOKEN_LENGTH
    assert (await log_in(here, old=made_up))[0] != made_up
    assert await load(here, made_up) is None

    monkeypatch.setattr("service.core.crypto.new_token", lambda: made_up)  # bites: keep the id the browser came with
    await log_in(here, old=made_up)
    assert await load(here, made_up) is not None


async def test_a_stolen_cookie_is_dead_after_logout(here: Resources) -> None:
    stolen, login = await log_in(here)
    sessions.clear_cookie(Response(), here.settings)
    assert await load(here, stolen), "bites: clearing the browser's cookie alone ends nothing"
    await sessions.end(here, login)
    assert await load(here, stolen) is None


async def test_the_old_id_grants_nothing_after_a_rotation(here: Resources) -> None:
    old, login = await log_in(here)
    new, fresh = await sessions.rotate(here, login, proven="password")
    assert await load(here, new) == fresh
    with pytest.raises(SessionRotated):
        await load(here, old)
    with pytest.raises(SessionRotated):
        await sessions.rotate(here, login)
    assert not await sessions.end_device(here, login.user_id, login.key)
    assert len(await sessions.devices(here, fresh)) == 1
    later(seconds=11)
    assert await load(here, old) is None

    again, _ = await log_in(here, login.user_id)  # bites: a new id that does not name the one it replaces
    assert [await load(here, token) is not None for token in (new, again)] == [True, True]


async def test_parallel_rotations_make_one_session(here: Resources) -> None:
    _, login = await log_in(here)
    outcomes = await asyncio.gather(*(sessions.rotate(here, login) for _ in range(8)), return_exceptions=True)
    assert [type(one) for one in outcomes].count(SessionRotated) == 7
    assert len(await sessions.devices(here, login)) == 1


async def test_a_revoked_session_cannot_be_rotated_back_to_life(here: Resources) -> None:
    _, login = await log_in(here)
    await sessions.end_all(here, login.user_id)
    with pytest.raises(NotAuthenticated):
        await sessions.rotate(here, login)
    assert await sessions.devices(here, login) == []


async def test_rotating_gains_no_time(here: Resources) -> None:
    token, login = await log_in(here)
    for _ in range(29):
        later(minutes=24)
        token, login = await sessions.rotate(here, login)
    assert await load(here, token)
    later(minutes=25)
    assert await load(here, token) is None, "twelve hours after the login it is over"


async def test_a_step_up_and_a_change_of_organization_are_stamped(here: Resources) -> None:
    _, login = await log_in(here)
    later(minutes=9)
    _, proven = await sessions.rotate(here, login, proven="totp")
    assert (proven.created_at, proven.csrf) == (login.created_at, login.csrf)
    assert proven.authenticated_at - login.authenticated_at >= timedelta(minutes=9)
    assert proven.methods == ("password", "totp")
    organization = new_id()
    token, moved = await sessions.rotate(here, proven, organization_id=organization, epoch=2)
    assert (moved.organization_id, moved.epoch, moved.authenticated_at) == (organization, 2, proven.authenticated_at)
    assert moved.csrf != login.csrf, "a form that is still open elsewhere was made for the other organization"
    assert await load(here, token) == moved


async def test_a_stolen_redis_opens_nothing(here: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    token, login = await log_in(here)
    response = Response()
    await before_login.hold(here, response, "oidc", {"state": "s"})
    await sessions.rotate(here, (await log_in(here))[1])
    loot = await dump(here)
    assert len(loot) == 7  # two sessions, a tombstone, two users' indexes, the index by expiry, what is held
    text = repr(loot)
    assert token not in text
    assert cookies_of(response)["oidc"] not in text
    hashed = login.key
    guesses = [
        hashed,
        hashed[: sessions.TOKEN_LENGTH],
        base64.urlsafe_b64encode(bytes.fromhex(hashed)).rstrip(b"=").decode(),
    ]
    assert [await load(here, guess) for guess in guesses] == [None] * 3

    monkeypatch.setattr("service.guardrails.sessions.key_of", lambda value: value)  # bites: store the id itself
    token, _ = await log_in(here)
    assert token in repr(await dump(here))


async def test_a_lost_redis_is_never_taken_for_nobody(redis: EmbeddedRedis) -> None:
    async with instance(redis, redis_timeout_ms=100) as here:
        with hung(redis):
            for attempt in (load(here, "A" * 43), log_in(here), sessions.end_all(here, new_id())):
                with pytest.raises(Unavailable) as caught:
                    await attempt
                assert caught.value.retry_after


async def test_an_answer_that_belongs_to_another_call_opens_nothing(here: Resources) -> None:
    mine, login = await log_in(here)
    _, victim = await log_in(here)
    pool: Any = here.redis.connection_pool

    async def give_up_half_way(*command: Any) -> None:
        """Sent, never read, back in the pool; answered too late for the pool to see that something is left."""
        await here.redis.client_pause(300)
        connection = await pool.get_connection()
        await connection.send_command(*command)
        await pool.release(connection)

    await give_up_half_way("EVAL", "return {'0', ARGV[1]}", 0, sessions._pack(victim))
    with pytest.raises(Unavailable):
        await load(here, mine)
    assert await load(here, mine) == login, "the connections were replaced"

    await here.redis.set("mine", "my own")
    await give_up_half_way("ECHO", "the victim's")
    assert await here.redis.get("mine") == b"the victim's", "bites: the plain client believes what it reads"


# Before the login


async def test_a_half_finished_login_is_remembered_once_for_this_browser(here: Resources) -> None:
    response = Response()
    await before_login.hold(here, response, "oidc", {"state": "s", "nonce": "n"})
    browser = request(cookie="; ".join(f"{name}={value}" for name, value in cookies_of(response).items()))
    assert await before_login.held(request(), here, "oidc") is None
    assert await before_login.held(browser, here, "code") is None, "another purpose has another cookie"
    assert await before_login.held(browser, here, "oidc", keep=True) == {"state": "s", "nonce": "n"}
    assert await before_login.held(browser, here, "oidc") == {"state": "s", "nonce": "n"}
    assert await before_login.held(browser, here, "oidc") is None, "an answer that is played again finds nothing"


async def test_what_is_held_is_no_session_and_gone_after_ten_minutes(here: Resources) -> None:
    response = Response()
    await before_login.hold(here, response, "code", {"user": "u"})
    token = cookies_of(response)["code"]
    assert await load(here, token) is None
    assert await before_login.held(request(cookie=f"oidc={token}"), here, "oidc") is None
    later(minutes=10)
    assert await before_login.held(request(cookie=f"code={token}"), here, "code") is None


def test_a_known_device_is_known_to_its_own_account_only() -> None:
    response, settings = Response(), Settings()
    before_login.remember_device(response, settings, "ann@example.com")
    browser = request(cookie=f"device={cookies_of(response)['device']}")
    device = before_login.known_device(browser, settings, "Ann@Example.com ")
    assert device is not None
    assert before_login.known_device(browser, settings, "bob@example.com") is None
    other = Response()
    before_login.remember_device(other, settings, "ann@example.com")
    assert (
        before_login.known_device(request(cookie=f"device={cookies_of(other)['device']}"), settings, "ann@example.com")
        != device
    )
    forged = base64.urlsafe_b64encode(bytes(60)).decode()
    assert before_login.known_device(request(cookie=f"device={forged}"), settings, "ann@example.com") is None
    assert before_login.known_device(request(), settings, "ann@example.com") is None
