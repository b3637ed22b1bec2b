"""Where one is logged in, ending sessions for good, and proving again that it is still the same person."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest

from service.core import clock
from service.core.context import Resources
from service.guardrails import sessions
from tests.features.accounts.conftest import OTHER_PASSWORD, PASSWORD, LogIn, Post, can_enter
from tests.features.accounts.test_sign_up import csrf
from tests.support.client import Client
from tests.support.factories import Factory, Person

END = re.compile(r"/account/sessions/([0-9a-f]{64})/end")


async def test_devices_are_listed_and_ended_one_by_one(person: Person, logged_in: LogIn) -> None:
    here, there, third = [await logged_in(person) for _ in range(3)]
    page = await here.page("/account/sessions")
    assert "This device" in page
    keys = END.findall(page)
    assert len(keys) == 2
    assert here.http.cookies["sid"] not in page
    answer = await here.submit(f"/account/sessions/{keys[0]}/end", page="/account/sessions")
    assert answer.status_code == 303
    assert [await can_enter(client) for client in (here, there, third)].count(True) == 2
    assert await can_enter(here)


async def test_nobody_ends_somebody_elses_session(person: Person, factory: Factory, logged_in: LogIn) -> None:
    mallory = await logged_in(await factory.person(password=PASSWORD))
    vera, veras_other = await logged_in(person), await logged_in(person)
    key = END.findall(await vera.page("/account/sessions"))[0]
    answer = await mallory.submit(f"/account/sessions/{key}/end", page="/account/sessions")
    assert answer.status_code == 303
    assert "There is no such session" in await mallory.page("/account/sessions")
    assert await can_enter(veras_other)


async def test_ending_sessions_asks_for_a_fresh_proof(person: Person, logged_in: LogIn) -> None:
    """Whoever found an open browser throws nobody out."""
    left_open, owner = await logged_in(person), await logged_in(person)
    key = END.findall(await left_open.page("/account/sessions"))[0]
    clock.advance(timedelta(minutes=11))
    for path in (f"/account/sessions/{key}/end", "/account/sessions/end-others"):
        answer = await left_open.submit(path, page="/account/sessions")
        assert answer.headers["location"].startswith("/confirm")
    assert await can_enter(owner)
    await left_open.submit("/confirm", proof=PASSWORD)
    await left_open.submit("/account/sessions/end-others", page="/account/sessions")
    assert not await can_enter(owner)


@pytest.mark.parametrize("act", ["end-others", "password", "reset", "deletion"])
async def test_ended_sessions_stay_ended_when_redis_forgets_the_deletions(
    person: Person, logged_in: LogIn, resources: Resources, post: Post, visitor: Client, act: str
) -> None:
    """A failover of Redis may lose what was deleted a moment ago; the epoch in PostgreSQL does not forget."""
    here, stolen = await logged_in(person), await logged_in(person)
    name = f"{resources.settings.redis_namespace}:s:{sessions.key_of(stolen.http.cookies['sid'])}"
    backup = await resources.redis.dump(name)
    assert backup
    if act == "end-others":
        answer = await here.submit("/account/sessions/end-others", page="/account/sessions")
    elif act == "password":
        answer = await here.submit("/account/password", current=PASSWORD, password=OTHER_PASSWORD)
    elif act == "deletion":
        answer = await here.submit("/account/deletion", email=person.email)
        await visitor.post(await post.link(person.email, "recover"), csrf=await csrf(visitor))
    else:
        await visitor.submit("/forgot", email=person.email)
        answer = await visitor.submit(await post.link(person.email, "reset"), password=OTHER_PASSWORD)
    assert answer.status_code == 303
    assert await can_enter(here) is (act in ("end-others", "password"))
    assert not await can_enter(stolen)
    await resources.redis.restore(name, 60_000, backup)
    assert await sessions.load(resources, stolen.http.cookies["sid"]) is not None, "Redis believes in it again"
    assert not await can_enter(stolen)


@pytest.mark.parametrize("path", ["/account/deletion", "/account/totp", "/account/email"])
async def test_dangerous_acts_ask_again_and_lead_back(person: Person, logged_in: LogIn, path: str) -> None:
    client = await logged_in(person)
    clock.advance(timedelta(minutes=11))
    page = {"/account/totp": "/account/security", "/account/email": "/account"}.get(path, path)
    if path == "/account/deletion":
        sent = await client.get(path)
    else:
        token = (await client.page(page)).partition('name="csrf" value="')[2].partition('"')[0]
        sent = await client.http.post(
            path,
            data={"csrf": token, "email": "new@example.com"},
            headers={"origin": client.origin, "referer": client.origin + page},
        )
    assert sent.headers["location"] == f"/confirm?next={page}"
    wrong = await client.submit("/confirm", page=sent.headers["location"], proof=OTHER_PASSWORD, next=page)
    assert wrong.status_code == 422
    session = client.http.cookies["sid"]
    right = await client.submit("/confirm", page=sent.headers["location"], proof=PASSWORD, next=page)
    assert (right.status_code, right.headers["location"]) == (303, page)
    assert client.http.cookies["sid"] != session, "more rights, another id"


async def test_proving_again_is_limited_and_leads_nowhere_else(person: Person, logged_in: LogIn) -> None:
    client = await logged_in(person)
    away = await client.submit("/confirm", proof=PASSWORD, next="//evil.example")
    assert away.headers["location"] == "/dashboard"
    statuses = [(await client.submit("/confirm", proof=OTHER_PASSWORD)).status_code for _ in range(5)]
    assert statuses == [422] * 4 + [429]


async def test_a_remembered_login_still_has_to_prove_itself(browser: Callable[[], Client], person: Person) -> None:
    client = browser()
    answer = await client.submit("/login", email=person.email, password=PASSWORD, remember="on")
    assert "Max-Age" in answer.headers["set-cookie"]
    clock.advance(timedelta(days=2))
    assert await can_enter(client)
    assert (await client.get("/account/deletion")).headers["location"] == "/confirm?next=/account/deletion"


async def test_an_unused_session_ends(person: Person, logged_in: LogIn) -> None:
    client = await logged_in(person)
    clock.advance(timedelta(minutes=31))
    assert not await can_enter(client)
