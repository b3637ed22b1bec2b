"""Name and address: a new address counts once its owner has said so, and the old one hears of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from service.core import clock
from service.guardrails.former_addresses import FormerAddress
from service.guardrails.sealed import unseal
from tests.features.accounts.conftest import OTHER_PASSWORD, PASSWORD, LogIn, Post, can_enter, user_row
from tests.features.accounts.test_sign_up import csrf, new_address
from tests.support.client import Client
from tests.support.factories import Factory, Person


async def ask(client: Client, email: str) -> None:
    answer = await client.submit("/account/email", page="/account", email=email)
    assert (answer.status_code, answer.headers["location"]) == (303, "/account")


async def test_change_the_name(person: Person, logged_in: LogIn) -> None:
    client = await logged_in(person)
    assert (await client.submit("/account/name", page="/account", name="  Ada <b>L</b>  ")).status_code == 303
    page = await client.page("/account")
    assert "Ada &lt;b&gt;L&lt;/b&gt;" in page
    assert "<b>L</b>" not in page
    wrong = await client.submit("/account/name", page="/account", name="x" * 121)
    assert wrong.status_code == 422
    assert "x" * 121 in wrong.text, "what was typed stays"


async def test_a_new_address_counts_when_it_was_confirmed(
    visitor: Client, person: Person, logged_in: LogIn, post: Post, superuser: Any
) -> None:
    client, new = await logged_in(person), new_address()
    await ask(client, new)
    link = await post.link(new, "change-email")
    former = "SELECT id, email FROM former_addresses WHERE user_id = $1"
    assert await superuser.fetch(former, person.id) == []
    assert "Your account was changed" in await post.subjects(person.email, count=1), "the present address is warned"
    assert (await user_row(superuser, person.email))["id"] == person.id, "nothing has changed yet"
    for _ in range(3):
        assert person.email in await visitor.page(link)
    assert (await visitor.post(link, csrf=await csrf(visitor))).status_code == 303
    assert (await user_row(superuser, new))["id"] == person.id
    [row] = await superuser.fetch(former, person.id)
    assert unseal(FormerAddress.email, row["email"], row["id"]).decode() == person.email, "an erasure needs it"
    assert "another e-mail address" in (await post.to(person.email, count=2))[-1].text
    assert (await visitor.submit("/login", email=person.email, password=PASSWORD)).status_code == 422
    assert (await visitor.submit("/login", email=new, password=PASSWORD)).status_code == 303
    assert "does not work any more" in await visitor.page(link)


async def test_a_taken_address_answers_the_same_and_its_owner_hears(
    person: Person, factory: Factory, logged_in: LogIn, post: Post
) -> None:
    client, other = await logged_in(person), await factory.person(password=OTHER_PASSWORD)
    free = new_address()
    pages = []
    for email in (free, other.email):
        await ask(client, email)
        pages.append((await client.page("/account")).replace(email, "somebody@example.com"))
    assert pages[0] == pages[1]
    assert await post.subjects(other.email, count=1) == ["You already have an account"]
    assert "/change-email/" in (await post.to(free))[0].text


async def test_a_sign_up_that_nobody_confirmed_keeps_nobody_from_the_address(
    visitor: Client, person: Person, factory: Factory, logged_in: LogIn, post: Post, superuser: Any
) -> None:
    """Anybody could reserve somebody's future address by typing it into the sign-up form."""
    squatter = await factory.person(verified=False, password=OTHER_PASSWORD)
    await ask(await logged_in(person), squatter.email)
    link = await post.link(squatter.email, "change-email")
    assert (await visitor.post(link, csrf=await csrf(visitor))).status_code == 303
    assert (await user_row(superuser, squatter.email))["id"] == person.id
    aside = await superuser.fetchval("SELECT email FROM users WHERE id = $1", squatter.id)
    assert aside == f"{squatter.id}@unconfirmed.invalid"


async def test_an_address_taken_in_the_meantime_is_a_conflict(
    visitor: Client, person: Person, factory: Factory, logged_in: LogIn, post: Post, superuser: Any
) -> None:
    new = new_address()
    await ask(await logged_in(person), new)
    link = await post.link(new, "change-email")
    other = await factory.person()
    await superuser.execute("UPDATE users SET email = $2 WHERE id = $1", other.id, new)
    assert (await visitor.post(link, csrf=await csrf(visitor))).headers["location"] == "/login"
    assert "has this address by now" in await visitor.page("/login")
    assert (await user_row(superuser, person.email))["id"] == person.id


async def test_a_thiefs_pending_change_dies_with_the_reset(
    visitor: Client, person: Person, logged_in: LogIn, post: Post, superuser: Any
) -> None:
    """Pre-hijacking by an unexpired change of address: the owner's new password kills it."""
    thief, mailbox = await logged_in(person), new_address()
    await ask(thief, mailbox)
    link = await post.link(mailbox, "change-email")
    await visitor.submit("/forgot", email=person.email)
    await visitor.submit(await post.link(person.email, "reset"), password=OTHER_PASSWORD)
    await visitor.post(link, csrf=await csrf(visitor))
    assert (await user_row(superuser, person.email))["id"] == person.id


async def test_the_same_address_is_nothing_to_change(person: Person, logged_in: LogIn) -> None:
    client = await logged_in(person)
    answer = await client.submit("/account/email", page="/account", email=person.email.upper())
    assert answer.status_code == 422
    assert "your address already" in answer.text


@pytest.mark.parametrize("email", ["", "nobody", "a@b", "a@x.com, b@x.com", "a\r\nBcc: b@x.com", "ü@x.com", "x" * 300])
async def test_what_is_no_address_is_told_beside_the_field(person: Person, logged_in: LogIn, email: str) -> None:
    client = await logged_in(person)
    answer = await client.submit("/account/email", page="/account", email=email)
    assert answer.status_code == 422
    assert 'aria-invalid="true"' in answer.text


async def test_deleting_and_undoing(
    browser: Callable[[], Client], person: Person, logged_in: LogIn, post: Post, superuser: Any
) -> None:
    client, elsewhere = await logged_in(person), await logged_in(person)
    wrong = await client.submit("/account/deletion", email="other@example.com")
    assert wrong.status_code == 422
    assert "not the address of your account" in wrong.text
    done = await client.submit("/account/deletion", email=person.email)
    assert (done.status_code, done.headers["location"]) == (303, "/login")
    assert done.headers["clear-site-data"]
    assert not await can_enter(client)
    assert not await can_enter(elsewhere)
    fresh = browser()
    assert (await fresh.submit("/login", email=person.email, password=PASSWORD)).status_code == 422
    link = await post.link(person.email, "recover")
    for _ in range(3):
        assert person.email in await fresh.page(link)
    assert (await fresh.post(link, csrf=await csrf(fresh))).headers["location"] == "/login"
    assert (await fresh.submit("/login", email=person.email, password=PASSWORD)).status_code == 303
    assert await can_enter(fresh)
    assert not await can_enter(elsewhere), "sessions stay ended"
    assert "does not work any more" in await fresh.page(link)


async def test_the_way_back_can_be_sent_again_and_tells_nobody(
    browser: Callable[[], Client], person: Person, logged_in: LogIn, post: Post, factory: Factory
) -> None:
    await (await logged_in(person)).submit("/account/deletion", email=person.email)
    client, live = browser(), await factory.person()
    token = await csrf(client)
    answers = []
    for email in (person.email, live.email, new_address()):
        sent = await client.post("/recover", csrf=token, email=email)
        answers.append((sent.status_code, sent.content, (await client.get(sent.headers["location"])).content))
    assert answers[0] == answers[1] == answers[2]
    newest = await post.link(person.email, "recover", count=2)
    assert (await client.post(newest, csrf=token)).status_code == 303
    assert (await client.submit("/login", email=person.email, password=PASSWORD)).status_code == 303


async def test_after_thirty_days_there_is_no_way_back(
    browser: Callable[[], Client], person: Person, logged_in: LogIn, post: Post
) -> None:
    await (await logged_in(person)).submit("/account/deletion", email=person.email)
    link = await post.link(person.email, "recover")
    clock.advance(timedelta(days=31))
    client = browser()
    assert "does not work any more" in await client.page(link)
    await client.post(link, csrf=await csrf(client))
    assert (await client.submit("/login", email=person.email, password=PASSWORD)).status_code == 422


async def test_signing_up_again_while_deleted_leads_back(
    browser: Callable[[], Client], person: Person, logged_in: LogIn, post: Post
) -> None:
    await (await logged_in(person)).submit("/account/deletion", email=person.email)
    await post.link(person.email, "recover")
    client = browser()
    await client.submit("/sign-up", name="Again", email=person.email, password=OTHER_PASSWORD)
    assert (
        await client.post(await post.link(person.email, "recover", count=2), csrf=await csrf(client))
    ).status_code == 303
    assert (await client.submit("/login", email=person.email, password=PASSWORD)).status_code == 303
