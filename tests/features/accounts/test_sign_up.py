"""Signing up: by mail and password, and nothing that tells a stranger who has an account."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from service.core import clock
from service.core.context import SYSTEM, Caller, Context, Resources
from service.core.database import Database
from service.core.errors import TooManyRequests
from service.features.accounts.jobs import forget_unconfirmed
from service.guardrails import rate_limits, switches
from tests.features.accounts.conftest import OTHER_PASSWORD, PASSWORD, Post, can_enter, is_logged_in, user_row
from tests.support.client import Client
from tests.support.factories import Factory, Person


def new_address() -> str:
    return f"new-{uuid4().hex[:12]}@example.com"


async def sign_up(client: Client, email: str, password: str = PASSWORD, **more: str) -> httpx.Response:
    return await client.submit("/sign-up", name="Nora New", email=email, password=password, **more)


async def test_sign_up_confirm_and_be_in(visitor: Client, post: Post) -> None:
    email = new_address()
    answer = await sign_up(visitor, f"  {email.upper()} ")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-up/sent")
    assert not is_logged_in(visitor)
    link = await post.link(email, "verify")
    shown = await visitor.get(link)
    assert shown.status_code == 200
    assert email in shown.text
    assert shown.headers["referrer-policy"] == "no-referrer"
    done = await visitor.submit(link, password=PASSWORD)
    assert done.status_code == 303
    assert await can_enter(visitor)


async def test_the_link_alone_confirms_nothing(browser: Callable[[], Client], post: Post, superuser: Any) -> None:
    """Mallory signs up with Vera's address; Vera clicks. Without Mallory's password nothing opens, and Vera resets."""
    email = new_address()
    mallory, vera = browser(), browser()
    await sign_up(mallory, email)
    link = await post.link(email, "verify")
    for _ in range(3):
        await vera.get(link)
    refused = await vera.submit(link, password=OTHER_PASSWORD)
    assert refused.status_code == 422
    assert (await user_row(superuser, email))["email_verified_at"] is None
    await vera.submit("/forgot", email=email)
    await vera.submit(await post.link(email, "reset"), password=OTHER_PASSWORD)
    assert (await mallory.submit("/login", email=email, password=PASSWORD)).status_code == 422
    assert (await vera.submit("/login", email=email, password=OTHER_PASSWORD)).status_code == 303


async def test_the_link_works_once(browser: Callable[[], Client], post: Post) -> None:
    email = new_address()
    first, second = browser(), browser()
    await sign_up(first, email)
    link = await post.link(email, "verify")
    form = await second.page(link)
    assert "Confirm and log in" in form
    assert (await first.submit(link, password=PASSWORD)).status_code == 303
    again = await second.post(link, password=PASSWORD, csrf=await csrf(second))
    assert again.status_code == 422
    assert "does not work any more" in again.text
    assert not is_logged_in(second)


async def csrf(client: Client) -> str:
    return (await client.page("/forgot")).partition('name="csrf" value="')[2].partition('"')[0]


async def test_an_unconfirmed_account_answers_like_a_wrong_password(browser: Callable[[], Client], post: Post) -> None:
    """Otherwise signing up and then logging in would tell whether the address had an account before."""
    email, client = new_address(), browser()
    await sign_up(client, email)
    token = await csrf(client)
    right = await client.post("/login", csrf=token, email=email, password=PASSWORD)
    wrong = await client.post("/login", csrf=token, email=email, password=OTHER_PASSWORD)
    assert right.status_code == wrong.status_code == 422
    assert right.content == wrong.content


async def test_every_address_gets_the_same_answer(
    browser: Callable[[], Client], post: Post, person: Person, factory: Factory, superuser: Any
) -> None:
    """Unknown, confirmed, waiting, deleted: equal bytes, equal status, equal headers but for ids and times."""
    waiting = await factory.person(password=PASSWORD, verified=False)
    deleted = await factory.person(password=PASSWORD)
    await superuser.execute("UPDATE users SET deleted_at = now(), deletion_id = id WHERE id = $1", deleted.id)
    client = browser()
    token = await csrf(client)
    answers = []
    for email in (new_address(), person.email, waiting.email, deleted.email):
        sent = await client.post("/sign-up", csrf=token, name="Nora", email=email, password=PASSWORD)
        shown = await client.get(sent.headers["location"])
        answers.append((sent.status_code, sent.content, visible(sent), shown.status_code, shown.content))
    assert len(answers) == 4
    assert all(answer == answers[0] for answer in answers)


def visible(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in ("x-request-id", "date")}


async def test_the_owner_of_a_known_address_hears_of_it_and_keeps_everything(
    visitor: Client, post: Post, person: Person, superuser: asyncpg.Connection[Any]
) -> None:
    before = await user_row(superuser, person.email)
    await sign_up(visitor, person.email, OTHER_PASSWORD)
    assert await post.subjects(person.email, count=1) == ["You already have an account"]
    assert await user_row(superuser, person.email) == before


async def test_the_latest_sign_up_counts(visitor: Client, post: Post) -> None:
    email = new_address()
    await sign_up(visitor, email, OTHER_PASSWORD)
    await sign_up(visitor, email, PASSWORD)
    first, second = await post.links(email, "verify", count=2)
    assert (await visitor.submit(first, password=OTHER_PASSWORD)).status_code == 422
    assert (await visitor.submit(second, password=PASSWORD)).status_code == 303


async def test_the_link_can_be_sent_again(visitor: Client, post: Post) -> None:
    email = new_address()
    await sign_up(visitor, email)
    answer = await visitor.submit("/verify", email=email)
    assert (answer.status_code, answer.headers["location"]) == (303, "/verify/sent")
    newest = await post.link(email, "verify", count=2)
    assert (await visitor.submit(newest, password=PASSWORD)).status_code == 303


async def test_a_confirmed_or_unknown_address_gets_no_link_but_the_same_answer(
    browser: Callable[[], Client], post: Post, person: Person
) -> None:
    client, waiting = browser(), new_address()
    token = await csrf(client)
    answers = {
        (await client.post("/verify", csrf=token, email=email)).content for email in (person.email, new_address())
    }
    assert len(answers) == 1

    async def witness() -> str:
        await sign_up(client, waiting)
        return waiting

    await post.nothing_for(person.email, witness)


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("short", "at least 10 characters"),
        ("Dragon-2026!", "attackers try first"),
        ("nora.new.nora.new", "too close to your name"),
        ("ballast-ballast-7", "too close to your name"),
    ],
)
async def test_weak_passwords_are_refused_beside_the_field(visitor: Client, password: str, reason: str) -> None:
    answer = await sign_up(visitor, new_address(), password)
    assert answer.status_code == 422
    assert reason in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert 'value="Nora New"' in answer.text, "what was typed stays"
    assert password not in answer.text, "but never the password"


@pytest.mark.parametrize("field", ["is_staff", "email_verified_at", "session_epoch", "id", "password_hash"])
async def test_a_form_cannot_set_what_it_does_not_show(visitor: Client, superuser: Any, field: str) -> None:
    """Mass assignment: an extra field refuses the whole form."""
    email = new_address()
    answer = await sign_up(visitor, email, **{field: "1"})
    assert answer.status_code == 422
    assert await superuser.fetchval("SELECT count(*) FROM users WHERE email = $1", email) == 0


async def test_sign_ups_can_be_stopped(visitor: Client, superuser: Any, resources: Resources) -> None:
    email = new_address()
    await superuser.execute(
        "INSERT INTO switches (name, is_on, reason, changed_at) VALUES ('stop_sign_ups', true, 'Too much spam.', now())"
        " ON CONFLICT (name) DO UPDATE SET is_on = true, reason = excluded.reason"
    )
    switches._known.clear()
    try:
        answer = await sign_up(visitor, email)
        assert answer.status_code == 503
        assert "Too much spam." in answer.text
        assert await superuser.fetchval("SELECT count(*) FROM users WHERE email = $1", email) == 0
    finally:
        await superuser.execute("DELETE FROM switches WHERE name = 'stop_sign_ups'")
        switches._known.clear()


async def test_one_address_signs_up_five_times_an_hour(visitor: Client) -> None:
    statuses = [(await sign_up(visitor, new_address())).status_code for _ in range(6)]
    assert statuses == [303] * 5 + [429]


async def test_a_flood_of_sign_ups_from_everywhere_has_an_end(visitor: Client, resources: Resources) -> None:
    """A net of ten thousand machines, four sign-ups each, would fill the table and our sender's reputation."""
    counted = 0
    try:
        with pytest.raises(TooManyRequests):
            for counted in range(1_000):  # noqa: B007 - how many are to be taken back
                await rate_limits.spend(resources, rate_limits.SIGN_UP)
        assert (await sign_up(visitor, new_address())).status_code == 429
    finally:
        for _ in range(counted):
            await rate_limits.refund(resources, rate_limits.SIGN_UP)
    assert (await sign_up(visitor, new_address())).status_code == 303


async def test_sign_ups_nobody_confirmed_are_forgotten(
    factory: Factory, superuser: Any, maintenance: Database, resources: Resources
) -> None:
    waiting, confirmed = await factory.person(verified=False), await factory.person()
    clock.advance(timedelta(days=8))
    fresh = await factory.person(verified=False)
    async with maintenance.unit_of_work() as work:
        await forget_unconfirmed(Context(work, resources, SYSTEM, Caller(request_id="test")))
    left = await superuser.fetch("SELECT id FROM users WHERE id = ANY($1)", [waiting.id, confirmed.id, fresh.id])
    assert {row["id"] for row in left} == {confirmed.id, fresh.id}
