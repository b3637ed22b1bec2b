"""The way of a copy: asked for with a fresh proof, made by any worker, handed to one person, gone after a day."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from datetime import timedelta
from typing import Any

import pytest

from infra.sandbox.mail import MailSink
from service.app import close_resources, create_resources
from service.core import clock
from service.core.context import Resources
from service.core.database import Database
from service.core.ids import new_id
from service.core.regions import in_region
from service.features.privacy.flows import make
from service.features.privacy.flows.make import remove_expired
from service.features.privacy.flows.progress import Lost
from service.guardrails.permissions import Role
from service.integrations.storage import NotStored, Storage
from tests.features.privacy.conftest import Desk
from tests.support.servers import RunningWorker


async def test_a_person_asks_waits_downloads_and_nobody_else_can(
    desk: Desk, mailbox: MailSink, worker: RunningWorker
) -> None:
    page = await desk.browser.page("/privacy")
    assert "Ask for a copy" in page
    assert "An e-mail address" in page, "what we hold and why is read from the map"
    export = await desk.ask()
    row = await desk.made(export)
    assert row["state"] == "ready"
    assert row["expires_at"] - row["ready_at"] == timedelta(hours=24)
    shown = await desk.browser.page("/privacy")
    assert f'href="/downloads/exports/{export}"' in shown
    assert (await desk.fetch(export)).namelist()[0] == "README.txt"

    mail = await mailed(mailbox, desk.owner.email)
    assert "/privacy" in mail
    assert str(export) not in mail, "the mail opens nothing"
    acts = await desk.db.fetch("SELECT action, outcome FROM audit_log WHERE actor_id = $1", desk.owner.id)
    assert {("privacy.request_export", "done"), ("privacy.download", "done")} <= {tuple(act) for act in acts}

    colleague = await desk.factory.person(Role.OWNER, desk.organization)
    async with await desk.factory.client(colleague) as other, await desk.factory.client() as stranger:
        assert (await other.get(f"/downloads/exports/{export}")).status_code == 404
        assert (await stranger.get(f"/downloads/exports/{export}")).status_code in (303, 401)
    clock.advance(timedelta(minutes=20))
    answer = await desk.browser.get(f"/downloads/exports/{export}")
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/confirm"), "the proof is not fresh any more"


async def test_only_a_fresh_proof_asks_and_one_copy_is_made_at_a_time(desk: Desk) -> None:
    await desk.ask()
    again = await desk.browser.submit("/privacy/exports", page="/privacy")
    assert again.status_code == 303
    assert "A copy is being made already." in await desk.browser.page("/privacy")
    assert await desk.db.fetchval("SELECT count(*) FROM data_exports WHERE user_id = $1", desk.owner.id) == 1
    clock.advance(timedelta(minutes=20))
    late = await desk.browser.submit("/privacy/exports", page="/privacy")
    assert late.headers["location"].startswith("/confirm")


async def test_two_at_the_same_moment_make_one(desk: Desk) -> None:
    token = desk.browser.csrf
    asked = [desk.browser.post("/privacy/exports", csrf=token) for _ in range(4)]
    assert {answer.status_code for answer in await asyncio.gather(*asked)} == {303}
    assert await desk.db.fetchval("SELECT count(*) FROM data_exports WHERE user_id = $1", desk.owner.id) == 1


async def test_copies_are_rationed(desk: Desk) -> None:
    answers = [await desk.browser.post("/privacy/exports", csrf=desk.browser.csrf) for _ in range(8)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert 2 <= len(refused) <= 3
    assert int(refused[-1].headers["retry-after"]) > 60


async def test_after_a_day_the_archive_is_gone_and_the_page_says_so(
    desk: Desk, resources: Resources, maintenance: Database
) -> None:
    export = await desk.ask()
    row = await desk.made(export)
    # Moved in the row: other tests' sessions and workers live by the clock, too.
    await desk.db.execute("UPDATE data_exports SET expires_at = now() - interval '1 second' WHERE id = $1", export)
    assert (await desk.browser.get(f"/downloads/exports/{export}")).status_code == 404
    assert "It was removed after 24 hours." in await desk.browser.page("/privacy")
    while (await desk.row(export))["state"] != "expired":
        await remove_expired(resources, maintenance)
    with pytest.raises(NotStored):
        await resources.get(Storage).size(row["key"])
    assert (await desk.row(export))["key"] == ""


async def test_an_archive_that_its_store_keeps_does_not_hold_up_the_others(
    desk: Desk, resources: Resources, maintenance: Database
) -> None:
    kept, other = new_id(), new_id()
    for export, key, days in ((kept, in_region("away", f"exports/{kept}"), 99), (other, f"exports/{other}", 98)):
        await desk.db.execute(
            "INSERT INTO data_exports (id, user_id, scope, state, asked_at, expires_at, done, parts, rows, size, key,"
            " missing, remark, attempts) VALUES ($1, $2, 'person', 'ready', now(), now() - $4 * interval '1 day', 0, 0,"
            " 0, 0, $3, '{}', '', 1)", export, desk.owner.id, key, days,
        )  # fmt: skip
    for _ in range(2):
        await remove_expired(resources, maintenance, batch=1)
    assert (await desk.row(other))["state"] == "expired"
    row = await desk.row(kept)
    assert row["state"] == "ready"
    assert row["leased_until"] > clock.now(), "asked again later"
    await desk.db.execute("DELETE FROM data_exports WHERE user_id = $1", desk.owner.id)


class Slow(Storage):
    """A store that takes nothing before it is woken."""

    def __init__(self, real: Storage) -> None:
        self.real, self.asleep, self.wake = real, asyncio.Event(), asyncio.Event()

    async def put(self, key: str, parts: AsyncIterable[bytes]) -> int:
        self.asleep.set()
        await self.wake.wait()
        return await self.real.put(key, parts)

    async def delete(self, key: str) -> None:
        await self.real.delete(key)


async def test_a_worker_that_died_leaves_the_copy_to_the_next(
    desk: Desk, resources: Resources, maintenance: Database
) -> None:
    """Killed in the middle: its lease runs out, another begins anew; had it only slept, it changes nothing."""
    export = new_id()
    held: dict[str, Any] = {
        "id": export, "user_id": desk.owner.id, "organization_id": None, "scope": "person", "claim": new_id(),
        "attempts": 1, "asked_at": clock.now(),
    }  # fmt: skip
    await desk.db.execute(
        "INSERT INTO data_exports (id, user_id, scope, state, claim, attempts, asked_at, leased_until, done, parts,"
        " rows, size, key, missing, remark) VALUES ($1, $2, 'person', 'building', $3, 1, $4, now() + interval '1 hour',"
        " 0, 0, 0, 0, '', '{}', '')",
        held["id"], held["user_id"], held["claim"], held["asked_at"],
    )  # fmt: skip
    store = Slow(resources.get(Storage))
    drowsy = create_resources(resources.settings)
    drowsy.provide(Storage, store)
    sleeper = asyncio.create_task(make._make(drowsy, maintenance, held))
    await asyncio.wait_for(store.asleep.wait(), 30)
    await desk.db.execute("UPDATE data_exports SET leased_until = now() WHERE id = $1", export)
    row = await desk.made(export)
    assert (row["state"], row["attempts"]) == ("ready", 2)
    store.wake.set()
    with pytest.raises(Lost):
        await sleeper
    await close_resources(drowsy)
    after = await desk.row(export)
    assert (after["key"], after["state"]) == (row["key"], "ready"), "who slept stores nothing over it"
    stored = [found.key async for found in resources.get(Storage).walk(f"exports/{export}")]
    assert stored == [row["key"]], "and takes its own archive away again"


async def test_what_fails_each_time_is_given_up_and_can_be_asked_for_again(
    desk: Desk,
) -> None:
    """A day that no program of ours can read: whichever worker takes it fails over the same row."""
    await desk.db.execute(
        "INSERT INTO notifications (id, organization_id, user_id, kind, text, href, key, created_at, read_at)"
        " VALUES ($1, $2, $3, 'role_changed', '', '/members', 'x', now(), '20000-01-01')",
        new_id(), desk.organization, desk.owner.id,
    )  # fmt: skip
    row = await desk.made(await desk.ask())
    await desk.db.execute("DELETE FROM notifications WHERE user_id = $1", desk.owner.id)
    assert row["state"] == "failed"
    page = await desk.browser.page("/privacy")
    assert "Something goes wrong on our side each time. Ask again later, or write to us." in page
    assert (await desk.made(await desk.ask()))["state"] == "ready"


async def mailed(mailbox: MailSink, address: str) -> str:
    for _ in range(600):
        if found := mailbox.to(address):
            return found[-1].text
        await asyncio.sleep(0.05)
    raise AssertionError(f"no mail to {address}")
