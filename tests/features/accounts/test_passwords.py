"""Choosing another password: forgotten or not, the old way in ends and nobody learns who has an account."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from service.core import clock
from service.core.errors import Unavailable
from service.core.ids import new_id
from service.features.accounts.models.credentials import OneTimeToken
from service.features.accounts.models.passwords import (
    SHORTEST,
    _common,
    _Lanes,
    check_password,
    hash_password,
    weakness,
)
from tests.features.accounts.conftest import OTHER_PASSWORD, PASSWORD, LogIn, Post, can_enter, is_logged_in, user_row
from tests.features.accounts.test_sign_up import csrf, new_address, sign_up
from tests.support.client import Client
from tests.support.factories import Factory, Person

THIRD_PASSWORD = "nine grey cats behind the moon"


async def ask(client: Client, email: str) -> None:
    answer = await client.submit("/forgot", email=email)
    assert (answer.status_code, answer.headers["location"]) == (303, "/forgot/sent")


async def test_reset_ends_every_session_and_the_old_password(
    visitor: Client, person: Person, logged_in: LogIn, post: Post
) -> None:
    thief = await logged_in(person)
    await ask(visitor, person.email)
    link = await post.link(person.email, "reset")
    shown = await visitor.get(link)
    assert shown.headers["referrer-policy"] == "no-referrer"
    answer = await visitor.submit(link, password=OTHER_PASSWORD)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert not is_logged_in(visitor), "a reset is no login: the second factor must still be asked"
    assert not await can_enter(thief)
    assert (await visitor.submit("/login", email=person.email, password=PASSWORD)).status_code == 422
    assert (await visitor.submit("/login", email=person.email, password=OTHER_PASSWORD)).status_code == 303
    assert "Your account was changed" in await post.subjects(person.email, count=2)


async def test_a_link_works_once_and_only_looking_uses_nothing_up(visitor: Client, person: Person, post: Post) -> None:
    await ask(visitor, person.email)
    link = await post.link(person.email, "reset")
    for _ in range(5):
        assert "Change password" in await visitor.page(link)
    assert (await visitor.submit(link, password=OTHER_PASSWORD)).status_code == 303
    again = await visitor.post(link, csrf=await csrf(visitor), password=THIRD_PASSWORD)
    assert again.status_code == 422
    assert "does not work any more" in again.text
    assert "does not work any more" in await visitor.page(link)


async def test_two_clicks_at_once_use_the_link_once(browser: Callable[[], Client], person: Person, post: Post) -> None:
    first, second = browser(), browser()
    await ask(first, person.email)
    link = await post.link(person.email, "reset")
    # Both see the form before either sends it: whoever opens it after the first click is told that it was used.
    sent = [(one, await csrf(one), password) for one, password in ((first, OTHER_PASSWORD), (second, THIRD_PASSWORD))]
    answers = await asyncio.gather(*(one.post(link, csrf=token, password=password) for one, token, password in sent))
    assert sorted(answer.status_code for answer in answers) == [303, 422]


async def test_a_link_dies_with_the_password_it_was_made_for(
    visitor: Client, person: Person, post: Post, logged_in: LogIn
) -> None:
    """Two links under way: using one kills the other; so does changing the password while logged in."""
    await ask(visitor, person.email)
    await ask(visitor, person.email)
    first, second = await post.links(person.email, "reset", count=2)
    assert (await visitor.submit(second, password=OTHER_PASSWORD)).status_code == 303
    assert (await visitor.post(first, csrf=await csrf(visitor), password=PASSWORD)).status_code == 422
    await ask(visitor, person.email)
    third = await post.link(person.email, "reset", count=3)
    owner = await logged_in(person, OTHER_PASSWORD)
    changed = await owner.submit("/account/password", current=OTHER_PASSWORD, password=THIRD_PASSWORD)
    assert changed.status_code == 303
    assert (await visitor.post(third, csrf=await csrf(visitor), password=PASSWORD)).status_code == 422


async def test_a_link_works_for_thirty_minutes(visitor: Client, person: Person, post: Post) -> None:
    await ask(visitor, person.email)
    link = await post.link(person.email, "reset")
    clock.advance(timedelta(minutes=31))
    assert (await visitor.post(link, csrf=await csrf(visitor), password=OTHER_PASSWORD)).status_code == 422


async def test_a_link_for_one_purpose_opens_no_other(visitor: Client, post: Post) -> None:
    email = new_address()
    await sign_up(visitor, email)
    token = (await post.link(email, "verify")).removeprefix("/verify/")
    for path in ("/reset/", "/recover/", "/change-email/"):
        assert "does not work any more" in await visitor.page(path + token)
    assert (await visitor.post("/reset/" + token, csrf=await csrf(visitor), password=OTHER_PASSWORD)).status_code == 422


async def test_links_cannot_be_guessed(visitor: Client, person: Person, superuser: Any, post: Post) -> None:
    """Knowing the whole table does not help: the link is the row's id under our signature."""
    await ask(visitor, person.email)
    link = await post.link(person.email, "reset")
    token_id = await superuser.fetchval("SELECT id FROM one_time_tokens WHERE user_id = $1", person.id)
    assert OneTimeToken.id_in(link.removeprefix("/reset/")) == token_id
    forged = [str(token_id), token_id.hex, link[len("/reset/") :][:-4] + "AAAA", "x", "é", "%00", "A" * 4_000]
    token = await csrf(visitor)
    for guess in forged:
        assert OneTimeToken.id_in(guess) is None
        refused = 400 if guess == "%00" else 422  # no address has a NUL: that one meets no route
        answer = await visitor.post(f"/reset/{guess}", csrf=token, password=OTHER_PASSWORD)
        assert answer.status_code == refused, guess


async def test_an_unknown_address_gets_the_same_answer_and_no_mail(
    browser: Callable[[], Client], person: Person, factory: Factory, superuser: Any, post: Post
) -> None:
    deleted = await factory.person(password=PASSWORD)
    await superuser.execute("UPDATE users SET deleted_at = now(), deletion_id = id WHERE id = $1", deleted.id)
    client = browser()
    token = await csrf(client)
    answers = []
    for email in (person.email, new_address(), deleted.email):
        sent = await client.post("/forgot", csrf=token, email=email)
        shown = await client.get(sent.headers["location"])
        answers.append((sent.status_code, sent.content, shown.content))
    assert answers[0] == answers[1] == answers[2]

    async def witness() -> str:
        await ask(browser(), (other := await factory.person()).email)
        return other.email

    await post.nothing_for(deleted.email, witness)


async def test_a_mailbox_is_not_flooded_and_the_answer_does_not_tell(
    browser: Callable[[], Client], person: Person, post: Post, factory: Factory
) -> None:
    """Three an hour per address, from wherever they are asked for."""
    for _ in range(5):
        await ask(browser(), person.email)

    async def witness() -> str:
        await ask(browser(), (other := await factory.person()).email)
        return other.email

    assert len(await post.links(person.email, "reset", count=3)) == 3
    await post.nothing_for(person.email, witness)


async def test_a_reset_proves_the_address(visitor: Client, post: Post, superuser: Any) -> None:
    email = new_address()
    await sign_up(visitor, email)
    await ask(visitor, email)
    assert (await visitor.submit(await post.link(email, "reset"), password=OTHER_PASSWORD)).status_code == 303
    assert (await user_row(superuser, email))["email_verified_at"] is not None


async def test_changing_the_password_keeps_this_session_and_ends_the_others(
    person: Person, logged_in: LogIn, post: Post
) -> None:
    here, elsewhere = await logged_in(person), await logged_in(person)
    session = here.http.cookies["sid"]
    wrong = await here.submit("/account/password", current=OTHER_PASSWORD, password=THIRD_PASSWORD)
    assert wrong.status_code == 422
    assert "not your present password" in wrong.text
    assert THIRD_PASSWORD not in wrong.text
    assert await can_enter(elsewhere)
    right = await here.submit("/account/password", current=PASSWORD, password=THIRD_PASSWORD)
    assert right.status_code == 303
    assert here.http.cookies["sid"] != session
    assert await can_enter(here)
    assert not await can_enter(elsewhere)
    assert "Your account was changed" in await post.subjects(person.email, count=1)


async def test_guessing_the_present_password_is_limited(person: Person, logged_in: LogIn) -> None:
    thief = await logged_in(person)
    statuses = [
        (await thief.submit("/account/password", current=OTHER_PASSWORD, password=THIRD_PASSWORD)).status_code
        for _ in range(6)
    ]
    assert statuses == [422] * 5 + [429]


@pytest.mark.parametrize(
    "password",
    ["password123!", "aaaaaaaaaaaa", "abcdefghijklmn", "9876543210", "monday1monday1", "QwErTyUiOp", "alice.smith1"],
)
def test_what_attackers_try_first_is_refused(password: str) -> None:
    assert weakness(password, about=("alice.smith@acme.example", "Alice Smith"))


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery staple",
        "zurück zum Büro 7",
        "我家后面有三棵苹果树",
        "a1b2 c3d4e5" * 18 + "!",
        "Tr0ub4dor&3x",
    ],
)
def test_long_and_foreign_passwords_are_welcome(password: str) -> None:
    assert weakness(password, about=("alice.smith@acme.example", "Alice Smith")) is None


def test_the_most_frequent_passwords_are_all_refused() -> None:
    """Three thousand of those that our rules would let by otherwise (ASVS 6.2.4)."""
    known = [password for password in _common() if len(password) >= SHORTEST]
    assert len(known) >= 3_000
    assert not [password for password in known if weakness(password.upper()) is None]


async def test_every_character_of_a_password_counts() -> None:
    """Also beyond the 72 bytes at which some hashes stop; nothing is cut off, folded or trimmed."""
    long = "a1b2 C3d4e5 " * 16
    stored = await hash_password(long)
    assert (await check_password(long, stored))[0]
    others = (long[:-1], f"{long} ", f" {long}", long.strip(), long.swapcase(), f"{long[:-2]}6 ", long[:72])
    assert [(await check_password(other, stored))[0] for other in others] == [False] * len(others)


async def test_no_password_gets_too_old(visitor: Client, person: Person) -> None:
    clock.advance(timedelta(days=1_100))
    answer = await visitor.submit("/login", email=person.email, password=PASSWORD)
    assert answer.status_code == 303
    assert await can_enter(visitor)


async def test_a_flood_of_hashes_is_refused_and_not_queued_for_ever() -> None:
    """Bounded memory and a bounded share of the database pool; who comes too many gets 503 at once."""
    lanes = _Lanes(2, 10)
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait() -> str:
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(10)
        return str(new_id())

    waiting = [asyncio.create_task(lanes.run(wait)) for _ in range(8)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await lanes.run(wait)
    gate.set()
    assert len(set(await asyncio.gather(*waiting))) == 8
    assert await lanes.run(wait)
