"""Logging in and out: the right way, and the usual attacks."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest

from service.features.accounts.models import passwords
from tests.features.accounts.conftest import OTHER_PASSWORD, PASSWORD, LogIn, can_enter, is_logged_in, user_row
from tests.features.accounts.test_sign_up import csrf, new_address
from tests.support.client import Client
from tests.support.factories import Factory, Person

WAITS_FOR_ME = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"


async def try_password(client: Client, token: str, email: str, password: str) -> Any:
    return await client.post("/login", csrf=token, email=email, password=password)


async def test_log_in_and_out(visitor: Client, person: Person) -> None:
    assert (await visitor.get("/account")).headers["location"] == "/login?next=/account"
    answer = await visitor.submit("/login", email=f" {person.email.upper()} ", password=PASSWORD)
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard")
    cookie = answer.headers["set-cookie"]
    assert all(flag in cookie for flag in ("HttpOnly", "SameSite=lax", "Path=/"))
    assert await can_enter(visitor)
    session = visitor.http.cookies["sid"]
    out = await visitor.submit("/logout", page="/account")
    assert out.headers["clear-site-data"] == '"cache", "storage"'
    assert not is_logged_in(visitor)
    visitor.http.cookies.set("sid", session, domain="127.0.0.1")
    assert not await can_enter(visitor), "a session is dead after logging out, whoever kept the cookie"


async def test_every_failure_is_the_same_failure(
    browser: Callable[[], Client], factory: Factory, superuser: Any
) -> None:
    """Known, unknown, without a password, unconfirmed, deleted: equal bytes."""
    known = await factory.person(password=PASSWORD)
    bare, waiting = await factory.person(), await factory.person(password=PASSWORD, verified=False)
    deleted = await factory.person(password=PASSWORD)
    await superuser.execute("UPDATE users SET deleted_at = now(), deletion_id = id WHERE id = $1", deleted.id)
    client = browser()
    token = await csrf(client)
    tried = [
        (known.email, OTHER_PASSWORD),
        (new_address(), PASSWORD),
        (bare.email, PASSWORD),
        (waiting.email, PASSWORD),
        (deleted.email, PASSWORD),
    ]
    bodies = []
    for email, password in tried:
        answer = await try_password(client, token, email, password)
        assert answer.status_code == 422
        assert password not in answer.text
        bodies.append(answer.text.replace(email, "somebody@example.com"))
    assert len(set(bodies)) == 1


async def test_a_session_planted_before_the_login_is_not_adopted(
    browser: Callable[[], Client], person: Person, logged_in: LogIn
) -> None:
    """Session fixation: the attacker's own valid session in the victim's browser ends; the victim gets a fresh one."""
    attacker = await logged_in(person)
    planted = attacker.http.cookies["sid"]
    victim = browser()
    victim.http.cookies.set("sid", planted, domain="127.0.0.1")
    answer = await victim.submit("/login", email=person.email, password=PASSWORD)
    assert answer.status_code == 303
    assert victim.http.cookies["sid"] != planted
    assert not await can_enter(attacker)


@pytest.mark.parametrize(
    ("wanted", "target"),
    [
        ("/account/security", "/account/security"),
        ("/indicators?q=a", "/indicators?q=a"),
        ("https://evil.example/", "/dashboard"),
        ("//evil.example/", "/dashboard"),
        ("/\\evil.example", "/dashboard"),
        ("javascript:alert(1)", "/dashboard"),
        ("/login?next=//evil.example", "/dashboard"),
        ("", "/dashboard"),
    ],
)
async def test_after_the_login_nobody_is_sent_elsewhere(
    visitor: Client, person: Person, wanted: str, target: str
) -> None:
    answer = await visitor.submit("/login", email=person.email, password=PASSWORD, next=wanted)
    assert answer.headers["location"] == target


async def test_a_way_back_too_long_to_keep_is_forgotten(visitor: Client, person: Person) -> None:
    """It is kept in Redis while a code is awaited: a stranger's megabyte is not."""
    way = "/members?cursor=" + "x" * 500
    assert "xxx" not in await visitor.page(f"/login?next={way}")
    token = await csrf(visitor)
    sent = await visitor.post("/login", csrf=token, email=person.email, password=PASSWORD, next=way)
    assert sent.status_code == 422


async def test_another_site_cannot_log_anybody_in(visitor: Client, person: Person) -> None:
    """Login CSRF: without our page's token, or when the browser says that another site asks."""
    fields = {"email": person.email, "password": PASSWORD}
    assert (await visitor.post("/login", **fields)).status_code == 403
    token = await csrf(visitor)
    foreign = await visitor.http.post(
        "/login", data={**fields, "csrf": token}, headers={"sec-fetch-site": "cross-site"}
    )
    assert foreign.status_code == 403
    assert not is_logged_in(visitor)


async def test_guessing_is_slowed_down_and_the_owner_is_not_locked_out(
    browser: Callable[[], Client], person: Person, logged_in: LogIn
) -> None:
    owner, attacker = await logged_in(person), browser()
    attacker.http.headers["x-forwarded-for"] = owner.http.headers["x-forwarded-for"]
    token = await csrf(attacker)
    statuses = [(await try_password(attacker, token, person.email, OTHER_PASSWORD)).status_code for _ in range(6)]
    assert statuses == [422] * 5 + [429]
    right = await try_password(attacker, token, person.email, PASSWORD)
    assert right.status_code == 429, "the right guess comes too late"
    assert "retry-after" in right.headers
    unknown = new_address()
    refused = [await try_password(attacker, token, unknown, PASSWORD) for _ in range(6)][-1]
    assert refused.status_code == 429, "an unknown address is limited just the same"
    # The owner's own browser is known, whatever strangers try, even in the same office.
    await owner.submit("/logout", page="/account")
    assert (await owner.submit("/login", email=person.email, password=PASSWORD)).status_code == 303


async def test_only_failures_count(browser: Callable[[], Client], person: Person) -> None:
    """Seven new browsers in one office: nobody is refused for having known the password."""
    for _ in range(7):
        client = browser()
        client.http.headers["x-forwarded-for"] = "198.51.100.7"
        assert (await client.submit("/login", email=person.email, password=PASSWORD)).status_code == 303


async def test_failures_and_successes_are_on_record(visitor: Client, person: Person, superuser: Any) -> None:
    await visitor.submit("/login", email=person.email, password=OTHER_PASSWORD)
    await visitor.submit("/login", email=person.email, password=PASSWORD)
    failed = await superuser.fetchrow(
        "SELECT * FROM audit_log WHERE action = 'accounts.log_in' AND outcome = 'failed' AND facts ->> 'account' = $1",
        str(person.id),
    )
    done = await superuser.fetchrow(
        "SELECT * FROM audit_log WHERE action = 'accounts.log_in' AND outcome = 'done' AND actor_id = $1", person.id
    )
    assert failed is not None
    assert done is not None
    assert person.email not in str(dict(failed)) + str(dict(done))


async def test_an_old_hash_is_renewed_at_login(visitor: Client, person: Person, superuser: Any) -> None:
    before = (await user_row(superuser, person.email))["password_hash"]
    await visitor.submit("/login", email=person.email, password=PASSWORD)
    after = (await user_row(superuser, person.email))["password_hash"]
    assert "m=8,t=1,p=1" in before
    assert "m=19456,t=2,p=1" in after


async def test_a_password_changed_during_the_renewal_stays_changed(
    browser: Callable[[], Client], person: Person, superuser: Any
) -> None:
    """The login had read the old hash, and wrote a fresh one of the old password over the new one."""
    client = browser()
    token = await csrf(client)
    async with superuser.transaction():
        await superuser.execute("UPDATE users SET password_hash = 'another' WHERE id = $1", person.id)
        login = asyncio.create_task(client.post("/login", csrf=token, email=person.email, password=PASSWORD))
        while not await superuser.fetchval(WAITS_FOR_ME):
            assert not login.done(), "it was to wait for the row"
            await asyncio.sleep(0.01)
    await login
    assert (await user_row(superuser, person.email))["password_hash"] == "another"


async def test_passwords_count_as_typed_on_every_keyboard(visitor: Client, factory: Factory, superuser: Any) -> None:
    """Spaces at the ends count; composed and decomposed accents are the same password."""
    person = await factory.person()
    password = "  zwölf Boxkämpfer jagen Viktor "
    await superuser.execute(
        "UPDATE users SET password_hash = $2 WHERE id = $1", person.id, await passwords.hash_password(password)
    )
    assert (await visitor.submit("/login", email=person.email, password=password.strip())).status_code == 422
    decomposed = unicodedata.normalize("NFD", password)
    assert decomposed != password
    assert (await visitor.submit("/login", email=person.email, password=decomposed)).status_code == 303


@pytest.mark.parametrize("password", ["\x00" * 12, "\ud800" * 12, "x" * 5_000, "'; DROP TABLE users; --"])
async def test_odd_passwords_are_just_wrong(visitor: Client, person: Person, password: str) -> None:
    token = await csrf(visitor)
    body = f"csrf={token}&email={person.email}&password=".encode() + password.encode("utf-8", "surrogatepass").replace(
        b"\x00", b"%00"
    )
    answer = await visitor.http.post(
        "/login", content=body, headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert answer.status_code == 422
    assert not is_logged_in(visitor)
