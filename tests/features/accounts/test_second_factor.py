"""Codes from an app and recovery codes: asked on every way in, each works once, guessing is hopeless."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from service.core import clock
from service.core.context import Resources
from service.core.crypto import keyring
from service.features.accounts.models.totp import code_at, matching_step
from service.guardrails import sessions
from tests.features.accounts.conftest import PASSWORD, LogIn, Post, can_enter, is_logged_in
from tests.support.client import Client
from tests.support.factories import Factory, Person

PERIOD = timedelta(seconds=30)


class Phone:
    """An authenticator app: knows the secret from the page and tells the code of the moment."""

    def __init__(self, page: str) -> None:
        shown = re.search(r'id="totp-key">([A-Z2-7 ]+)<', page)
        assert shown, page
        self._secret = shown[1].replace(" ", "").encode()

    def code(self) -> str:
        return code_at(self._secret, clock.now())

    def next_code(self) -> str:
        """Wait for a new code: the one just used works no more."""
        clock.advance(PERIOD)
        return self.code()


async def turn_on(client: Client) -> tuple[Phone, list[str]]:
    """Set codes up through the pages: the phone and the recovery codes."""
    started = await client.submit("/account/totp", page="/account/security")
    assert started.headers["location"] == "/account/totp"
    phone = Phone(await client.page("/account/totp"))
    done = await client.submit("/account/totp/confirmation", page="/account/totp", code=phone.code())
    assert done.status_code == 200, done.text
    return phone, re.findall(r"\b[2-9a-z]{5}(?:-[2-9a-z]{5}){4}\b", done.text.partition("recovery-codes")[2])[:10]


async def password_only(client: Client, person: Person) -> None:
    answer = await client.submit("/login", email=person.email, password=PASSWORD, next="/account/security")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login/code")
    assert not is_logged_in(client), "half a login is no login"


async def test_turning_on_asks_for_codes_from_then_on(
    browser: Callable[[], Client], person: Person, logged_in: LogIn, post: Post
) -> None:
    other_device, client = await logged_in(person), await logged_in(person)
    session = client.http.cookies["sid"]
    phone, codes = await turn_on(client)
    assert len(set(codes)) == 10
    assert client.http.cookies["sid"] != session
    assert await can_enter(client)
    assert not await can_enter(other_device), "sessions that began without a code end"
    assert "Your account was changed" in await post.subjects(person.email, count=1)
    fresh = browser()
    await password_only(fresh, person)
    answer = await fresh.submit("/login/code", code=phone.next_code())
    assert (answer.status_code, answer.headers["location"]) == (303, "/account/security")
    assert await can_enter(fresh)


async def test_the_picture_is_ours_and_the_secret_is_shown_no_more(person: Person, logged_in: LogIn) -> None:
    client = await logged_in(person)
    await client.submit("/account/totp", page="/account/security")
    page = await client.page("/account/totp")
    assert 'src="data:image/svg+xml' in page
    phone = Phone(page)
    await client.submit("/account/totp/confirmation", page="/account/totp", code=phone.code())
    again = await client.get("/account/totp")
    assert again.status_code == 303
    assert (await client.submit("/account/totp", page="/account/security")).headers["location"] == "/account/security"


async def test_a_secret_that_waits_is_shown_after_a_fresh_proof_only(person: Person, logged_in: LogIn) -> None:
    """Whoever had the session an hour later could copy it, and wait for its owner to confirm it."""
    client = await logged_in(person)
    await client.submit("/account/totp", page="/account/security")
    clock.advance(timedelta(minutes=11))
    assert (await client.get("/account/totp")).headers["location"] == "/confirm?next=/account/totp"
    proved = await client.submit("/confirm", page="/confirm", proof=PASSWORD, next="/account/totp")
    assert "totp-key" in await client.page(proved.headers["location"])


async def test_the_secret_is_encrypted_and_bound_to_its_row(
    person: Person, logged_in: LogIn, superuser: Any, factory: Factory
) -> None:
    await turn_on(await logged_in(person))
    sealed = await superuser.fetchval("SELECT totp_secret FROM users WHERE id = $1", person.id)
    assert re.fullmatch(rb"[A-Z2-7]{32}", keyring().decrypt(sealed, f"users:totp_secret:{person.id}"))
    with pytest.raises(ValueError, match="altered"):
        keyring().decrypt(sealed, f"users:totp_secret:{UUID(int=1)}")


async def test_a_code_works_once(browser: Callable[[], Client], person: Person, logged_in: LogIn) -> None:
    """Replay inside the window: somebody who saw the code over a shoulder is half a minute too late."""
    phone, _ = await turn_on(await logged_in(person))
    first, second = browser(), browser()
    await password_only(first, person)
    await password_only(second, person)
    code = phone.next_code()
    assert (await first.submit("/login/code", code=code)).status_code == 303
    replayed = await second.submit("/login/code", code=code)
    assert replayed.status_code == 422
    assert not is_logged_in(second)


async def test_two_logins_at_once_cannot_share_a_code(
    browser: Callable[[], Client], person: Person, logged_in: LogIn
) -> None:
    phone, _ = await turn_on(await logged_in(person))
    clients = [browser() for _ in range(4)]
    for client in clients:
        await password_only(client, person)
    code = phone.next_code()
    answers = await asyncio.gather(*(client.submit("/login/code", code=code) for client in clients))
    assert sorted(answer.status_code for answer in answers) == [303, 422, 422, 422]


def test_codes_count_within_the_drift_of_a_clock_and_never_backwards() -> None:
    secret, now = b"JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", clock.now()
    step = int(now.timestamp()) // 30
    for drift, counts in ((-2, False), (-1, True), (0, True), (1, True), (2, False)):
        code = code_at(secret, now + drift * PERIOD)
        assert matching_step(secret, code, at=now, after=0) == (step + drift if counts else None)
    code = code_at(secret, now)
    assert matching_step(secret, code, at=now, after=step) is None
    assert matching_step(secret, f" {code[:3]} {code[3:]} ", at=now, after=0) == step
    for nonsense in ("", "12345", "1234567", "abcdef", "١٢٣٤٥٦", "\x00" * 6):
        assert matching_step(secret, nonsense, at=now, after=0) is None


async def test_a_recovery_code_works_once(browser: Callable[[], Client], person: Person, logged_in: LogIn) -> None:
    _, codes = await turn_on(await logged_in(person))
    client, other = browser(), browser()
    await password_only(client, person)
    assert (await client.submit("/login/code", code=codes[3].upper().replace("-", " "))).status_code == 303
    assert "9 of your recovery codes" in await client.page("/account/security")
    await password_only(other, person)
    assert (await other.submit("/login/code", code=codes[3])).status_code == 422


async def test_new_recovery_codes_replace_the_old(
    browser: Callable[[], Client], person: Person, logged_in: LogIn, superuser: Any
) -> None:
    client = await logged_in(person)
    _, old = await turn_on(client)
    shown = await client.submit("/account/recovery-codes", page="/account/security")
    new = re.findall(r"\b[2-9a-z]{5}(?:-[2-9a-z]{5}){4}\b", shown.text.partition("recovery-codes")[2])[:10]
    assert len(new) == 10
    assert not set(new) & set(old)
    stored = await superuser.fetch("SELECT code_hash FROM recovery_codes WHERE user_id = $1", person.id)
    assert len(stored) == 10
    fresh = browser()
    await password_only(fresh, person)
    assert (await fresh.submit("/login/code", code=old[0])).status_code == 422
    assert (await fresh.submit("/login/code", code=new[0])).status_code == 303


async def test_guessing_codes_is_stopped_after_five(
    browser: Callable[[], Client], person: Person, logged_in: LogIn
) -> None:
    """Per account, from however many browsers: a million codes at five a quarter of an hour are never tried."""
    phone, _ = await turn_on(await logged_in(person))
    statuses = []
    for _ in range(6):
        client = browser()
        await password_only(client, person)
        statuses.append((await client.submit("/login/code", code="000000")).status_code)
    assert statuses == [422] * 5 + [429]
    assert (await client.submit("/login/code", code=phone.next_code())).status_code == 429


async def test_without_the_password_there_is_no_second_step(visitor: Client, person: Person) -> None:
    assert (await visitor.get("/login/code")).headers["location"] == "/login"
    await visitor.get("/login")
    token = (await visitor.page("/login")).partition('name="csrf" value="')[2].partition('"')[0]
    for cookie in ("", "x" * 43):
        visitor.http.cookies.set("second-factor", cookie, domain="127.0.0.1")
        answer = await visitor.post("/login/code", csrf=token, code="123456")
        assert answer.headers["location"] == "/login"
        assert not is_logged_in(visitor)


async def test_a_half_finished_login_ends_with_a_changed_password(
    browser: Callable[[], Client], person: Person, logged_in: LogIn, superuser: Any
) -> None:
    phone, _ = await turn_on(await logged_in(person))
    client = browser()
    await password_only(client, person)
    await superuser.execute("UPDATE users SET session_epoch = session_epoch + 1 WHERE id = $1", person.id)
    answer = await client.submit("/login/code", code=phone.next_code())
    assert answer.headers["location"] == "/login"
    assert not is_logged_in(client)


async def test_turning_off_needs_a_fresh_proof(
    browser: Callable[[], Client], person: Person, logged_in: LogIn, post: Post
) -> None:
    client = await logged_in(person)
    await turn_on(client)
    clock.advance(timedelta(minutes=11))
    sent_away = await client.submit("/account/totp/removal", page="/account/security")
    assert sent_away.headers["location"].startswith("/confirm")
    proved = await client.submit("/confirm", page="/confirm?next=/account/security", proof=PASSWORD)
    assert proved.status_code == 303
    done = await client.submit("/account/totp/removal", page="/account/security")
    assert (done.status_code, done.headers["location"]) == (303, "/account/security")
    assert (await browser().submit("/login", email=person.email, password=PASSWORD)).headers["location"] == "/dashboard"


async def test_a_session_that_turned_codes_off_was_not_proven_by_one(
    person: Person, logged_in: LogIn, resources: Resources
) -> None:
    client = await logged_in(person)
    await turn_on(client)
    for expected in (("password", "totp"), ("password",)):
        login = await sessions.load(resources, client.http.cookies["sid"])
        assert login is not None
        assert login.methods == expected
        await client.submit("/account/totp/removal", page="/account/security")
