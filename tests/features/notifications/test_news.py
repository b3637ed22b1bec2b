"""News over HTTP: who is told, once, the number in the menu, reading, and what a person does not want to hear."""

from __future__ import annotations

import re
from typing import Any

import asyncpg

from service.features.notifications.models import PAYMENT
from service.guardrails.permissions import Role
from tests.features.notifications.conftest import NEWS, Tell
from tests.support.client import Client
from tests.support.factories import Factory, Person
from tests.support.servers import RunningWorker

OPEN = re.compile(r'action="(/notifications/[0-9a-f-]{36}/read)"')


async def unread(client: Client) -> str:
    """The number as the open page's script asks for it; empty when there is nothing."""
    answer = await client.get("/notifications/unread", headers={"hx-request": "true"})
    found = re.search(r'class="badge info">([0-9+]+)', answer.text)
    return found[1] if found else ""


async def test_news_is_counted_read_and_leads_to_what_it_is_about(factory: Factory, owner: Person, tell: Tell) -> None:
    async with await factory.client(owner) as client:
        assert "Nothing new" in await client.page("/notifications")
        assert await tell(owner.organization_id, "First <b>news</b>", user_ids=[owner.id]) == 1
        assert await tell(owner.organization_id, "Second news", role=Role.ADMIN) == 1
        page = await client.page("/notifications")
        assert page.index("Second news") < page.index("First &lt;b&gt;news"), "newest first, and as text"
        assert 'badge info">2<' in await client.page("/indicators"), "without any script, on every page"
        opened = await client.submit(OPEN.findall(page)[0], page="/notifications")
        assert (opened.status_code, opened.headers["location"]) == (303, "/indicators")
        assert await unread(client) == "1"
        await client.submit("/notifications/read", page="/notifications")
        assert await unread(client) == ""
        assert "badge info" not in await client.page("/notifications")


async def test_the_open_page_asks_cheaply(factory: Factory, owner: Person, tell: Tell) -> None:
    async with await factory.client(owner) as client:
        asked = {"hx-request": "true"}
        tag = (await client.get("/notifications/unread", headers=asked)).headers["etag"]
        same = await client.get("/notifications/unread", headers=asked | {"if-none-match": tag})
        assert (same.status_code, same.headers["poll-seconds"]) == (304, "60")
        await tell(owner.organization_id, user_ids=[owner.id])
        assert (await client.get("/notifications/unread", headers=asked | {"if-none-match": tag})).status_code == 200


async def test_a_person_is_told_once_and_only_where_they_belong(
    factory: Factory, owner: Person, member: Person, tell: Tell
) -> None:
    stranger = await factory.person(Role.OWNER)
    where = owner.organization_id
    assert await tell(where, role=Role.VIEWER, key="same") == 2
    assert await tell(where, role=Role.VIEWER, key="same") == 0
    assert await tell(where, user_ids=[stranger.id, member.id], key="other") == 1
    assert await tell(where, role=Role.ADMIN, key="third") == 1, "a member is no admin"
    async with await factory.client(stranger) as client:
        assert await unread(client) == ""


async def test_nobody_reads_what_somebody_else_was_told(
    factory: Factory, owner: Person, member: Person, tell: Tell, superuser: asyncpg.Connection[Any]
) -> None:
    await tell(owner.organization_id, "Between us", user_ids=[member.id])
    theirs = await superuser.fetchval("SELECT id FROM notifications WHERE user_id = $1", member.id)
    async with await factory.client(owner) as client:
        assert "Between us" not in await client.page("/notifications")
        assert (await client.submit(f"/notifications/{theirs}/read", page="/account")).status_code == 404
        await client.submit("/notifications/read", page="/account")
    assert await superuser.fetchval("SELECT read_at FROM notifications WHERE id = $1", theirs) is None


async def test_what_a_person_switched_off_is_not_told(factory: Factory, owner: Person, tell: Tell) -> None:
    async with await factory.client(owner) as client:
        chosen = await client.submit(
            f"/account/notifications/{NEWS.name}", page="/account/notifications", channel="off"
        )
        assert chosen.status_code == 303, chosen.text
        wrong = await client.submit(
            f"/account/notifications/{NEWS.name}", page="/account/notifications", channel="smoke"
        )
        assert wrong.status_code == 422
        nothing = await client.submit("/account/notifications/nothing", page="/account/notifications", channel="app")
        assert nothing.status_code == 404
        assert await tell(owner.organization_id, user_ids=[owner.id]) == 0
        assert await tell(owner.organization_id, user_ids=[owner.id], kind=PAYMENT) == 1
        assert await unread(client) == "1"


async def test_a_changed_role_is_news(
    factory: Factory, owner: Person, member: Person, worker: RunningWorker, superuser: asyncpg.Connection[Any]
) -> None:
    """Through the action, its job and the worker."""
    membership = await superuser.fetchval("SELECT id FROM memberships WHERE user_id = $1", member.id)
    async with await factory.client(owner) as boss, await factory.client(member) as client:
        changed = await boss.submit(f"/members/{membership}/role", page="/members", role="viewer")
        assert changed.status_code == 303, changed.text
        for _ in range(1_500):
            if await unread(client):
                break
            await superuser.fetchval("SELECT pg_sleep(0.02)")
        assert "You are viewer now." in await client.page("/notifications")
