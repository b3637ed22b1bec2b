"""Attacks on sessions fail, and each protection bites when it is taken away.

That "end all" holds although Redis lost the deletions is the epoch's doing: see the tests of the accounts feature.
"""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from typing import Any

import pytest
from starlette.responses import Response

from infra.sandbox.redis import EmbeddedRedis
from service.core.context import Resources
from service.core.errors import NotAuthenticated, Unavailable
from service.core.ids import new_id
from service.guardrails import before_login, sessions
from service.guardrails.sessions import SessionRotated, load
from tests.guardrails.instances import cookies_of, hung, instance, later, log_in


async def dump(resources: Resources) -> dict[str, str]:
    """All that a thief of Redis gets: every key of ours with its value, in text."""
    found: dict[str, str] = {}
    async for key in resources.redis.scan_iter(f"{resources.settings.redis_namespace}:*", count=1000):
        match await resources.redis.type(key):
            case b"hash":
                value: Any = await resources.redis.hgetall(key)
            case b"zset":
                value = await resources.redis.zrange(key, 0, -1)
            case _:
                value = await resources.redis.get(key)
        found[key.decode()] = repr(value)
    return found


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
