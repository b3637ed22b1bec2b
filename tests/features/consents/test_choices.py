"""A yes, a no, an objection and a restriction over HTTP; and that what depends on them stops at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from infra.sandbox.mail import MailKnobs, MailSink
from service.core import clock
from service.core.context import SYSTEM, Caller, Context, Resources
from service.core.database import Database
from service.core.ids import new_id
from service.features.consents import jobs
from service.features.consents.models import PRODUCT_NEWS, USAGE_FIGURES
from service.guardrails import purposes
from service.guardrails.jobs import Event
from service.guardrails.permissions import Role
from service.guardrails.purposes import EVERYTHING, Purpose, permits
from service.guardrails.subjects import address_hash
from service.integrations.mail import MailFailed
from service.web.mail import deliver
from tests.support.client import Client
from tests.support.factories import Factory, Person
from tests.support.servers import RunningWorker

CHOICES = "/privacy/choices"
WHY = "Release of 3 March, ticket 4712"
NEWS = {"subject": "Sources can be paused", "text": "From today on you can pause a source for a while."}


@asynccontextmanager
async def acting(database: Database, resources: Resources) -> AsyncIterator[Context]:
    async with database.unit_of_work(tenant=None) as work:
        yield Context(work, resources, SYSTEM, Caller("test"))


async def say(client: Client, purpose: Purpose, *, yes: bool) -> None:
    version = {"version": str(purpose.version)} if yes else {}
    answer = await client.submit(f"{CHOICES}/{purpose.name}/{'yes' if yes else 'no'}", page=CHOICES, **version)
    assert (answer.status_code, answer.headers["location"]) == (303, CHOICES)


async def may(resources: Resources, person: Person, purpose: Purpose | None) -> bool:
    async with resources.database.unit_of_work(tenant=None) as work:
        return await permits(work.raw, purpose, person.id)


async def news_row(superuser: asyncpg.Connection[Any]) -> UUID:
    identifier = new_id()
    await superuser.execute(
        "INSERT INTO news (id, subject, text, created_at) VALUES ($1, $2, $3, now())", identifier, *NEWS.values()
    )
    return identifier


async def test_news_goes_to_those_who_agreed_and_a_no_stops_it_at_once(
    factory: Factory, resources: Resources, superuser: Any, mailbox: MailSink, worker: RunningWorker
) -> None:
    ada, ben, cleo = [await factory.person(Role.OWNER) for _ in range(3)]
    staff = await factory.person(staff=True)
    async with await factory.client(ada) as client, await factory.client(cleo) as other:
        assert not await may(resources, ada, PRODUCT_NEWS), "off until somebody says yes"
        for _ in range(2):
            await say(client, PRODUCT_NEWS, yes=True)
        await say(other, PRODUCT_NEWS, yes=True)
        assert "Take it back" in await client.page(CHOICES)
        await say(other, PRODUCT_NEWS, yes=False)
        async with await factory.client(staff, "password", "totp") as office:
            silent = await office.submit("/staff/news/send", page="/staff/news/send", **NEWS)
            assert (silent.status_code, "Why: " in silent.text) == (422, True), "a reason first, as for every act"
            sent = await office.submit("/staff/news/send", page="/staff/news/send", reason=WHY, **NEWS)
            assert (sent.status_code, sent.headers["location"]) == (303, "/staff/news")
            assert NEWS["subject"] in await office.page("/staff/news")
        told = "SELECT reason FROM audit_log WHERE action = 'consents.send_news' AND actor_id = $1 AND outcome = 'done'"
        assert await superuser.fetchval(told, staff.id) == WHY
        for _ in range(1_500):
            if mailbox.to(ada.email):
                break
            await asyncio.sleep(0.02)
        (mail,) = mailbox.to(ada.email)
        assert mail.subject == NEWS["subject"]
        assert not mailbox.to(ben.email) + mailbox.to(cleo.email), "never asked, and taken back"
        # The link in the mail takes it back without a login; what is on its way then arrives no more.
        link = dict(mail.headers)["List-Unsubscribe"].strip("<>")
        assert (await other.post(link.removeprefix(factory.url), csrf="")).status_code == 200
        async with acting(resources.database, resources) as ctx:
            again = await news_row(superuser)
            await jobs.mail_news(ctx, again, ada.id)
        assert len(mailbox.to(ada.email)) == 1
        state = "SELECT state FROM sent_mails WHERE reference = $1"
        assert await superuser.fetchval(state, f"product.{again}.{ada.id}") == "suppressed"
        assert "Agree" in await client.page(CHOICES)
    words = await superuser.fetch("SELECT given, source FROM consents WHERE user_id = $1 ORDER BY id", ada.id)
    assert [tuple(word) for word in words] == [(True, "page"), (False, "mail")], "each new word is a line of its own"


async def test_new_words_ask_again(factory: Factory, resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    person = await factory.person(Role.OWNER)
    async with await factory.client(person) as client:
        await say(client, PRODUCT_NEWS, yes=True)
        assert await may(resources, person, PRODUCT_NEWS)
        newer = Purpose(PRODUCT_NEWS.name, PRODUCT_NEWS.title, "Other words.", PRODUCT_NEWS.basis, version=2)
        monkeypatch.setitem(purposes.PURPOSES, newer.name, newer)
        assert not await may(resources, person, newer)
        page = await client.page(CHOICES)
        assert "These words are new" in page
        assert 'name="version" value="2"' in page
        for seen in ({}, {"version": "1"}, {"version": "x"}):  # a page that was opened before the words changed
            await client.submit(f"{CHOICES}/{newer.name}/yes", page=CHOICES, **seen)
            assert "These words have changed" in await client.page(CHOICES)
            assert not await may(resources, person, newer)
        await say(client, newer, yes=True)
        assert await may(resources, person, newer)


async def test_an_objection_leaves_a_person_out_of_the_count(
    factory: Factory, resources: Resources, maintenance: Database
) -> None:
    sent: list[str] = []

    def note(query: Any) -> None:
        sent.append(query.query)

    async def counted() -> float:
        async with acting(maintenance, resources) as ctx:
            ctx.work.raw.add_query_logger(note)
            await jobs.count_active_people(ctx)
            ctx.work.raw.remove_query_logger(note)
        return float(jobs.active.labels("1")._value.get())

    people = [await factory.person(Role.OWNER) for _ in range(2)]
    clients = [await factory.client(person) for person in people]
    for client in clients:
        await client.submit("/account/name", page="/account", name="Somebody active")
    before = await counted()
    asked = {one.split()[1] for one in sent if "FROM audit_log" in one}
    assert asked == {"count(*)"}, "no list of people is brought into the process"
    await say(clients[0], USAGE_FIGURES, yes=False)
    await clients[1].submit("/privacy/restriction", page=CHOICES, reason="My name is wrong.")
    assert await counted() == before - 2
    await say(clients[0], USAGE_FIGURES, yes=True)
    assert await counted() == before - 1
    for client in clients:
        await client.http.aclose()


async def test_restricted_data_rest_until_the_person_was_told(
    factory: Factory, resources: Resources, superuser: Any, mailbox: MailSink, worker: RunningWorker
) -> None:
    person, staff = await factory.person(Role.OWNER), await factory.person(staff=True)
    async with await factory.client(staff, "password", "totp") as office, await factory.client(person) as client:
        await say(client, PRODUCT_NEWS, yes=True)
        home, reason = "/staff/restrictions", "Letter of 3 March, ticket 4711"
        enter = f"{home}/restrict"
        short = await office.submit(enter, page=enter, email=person.email, reason="because")
        assert short.status_code == 422
        unknown = await office.submit(enter, page=enter, email="nobody@example.com", reason=reason)
        assert "no account with this address" in unknown.text
        asked = "SELECT facts->>'sought' FROM audit_log WHERE action = 'consents.restrict_person' AND actor_id = $1"
        assert address_hash("nobody@example.com").hex() in [row[0] for row in await superuser.fetch(asked, staff.id)]
        assert (await office.submit(enter, page=enter, email=person.email, reason=reason)).status_code == 303
        again = await office.submit(enter, page=enter, email=person.email, reason=reason)
        assert "rest already" in again.text
        assert "Your data rest." in await client.page(CHOICES)
        for aim in (PRODUCT_NEWS, USAGE_FIGURES, None):
            assert not await may(resources, person, aim), "also what was agreed to"
        async with acting(resources.database, resources) as ctx:
            link = {"link": "https://app.example/x", "base_url": "", "what": ""}
            await deliver(ctx, person.email, "accounts/mail/reset", f"must.{new_id()}", **link)
            await jobs.mail_news(ctx, await news_row(superuser), person.id)
        assert len(mailbox.to(person.email)) == 1, "what they asked for comes, news does not"
        limit = await superuser.fetchval(
            "SELECT id FROM processing_limits WHERE user_id = $1 AND purpose = $2", person.id, EVERYTHING
        )
        end = f"{home}/{limit}/lift"
        assert end in await office.page(f"{home}?user_id={person.id}")
        assert end not in await office.page(f"{home}?user_id={staff.id}"), "one person's alone"
        assert reason not in await office.page(f"{home}?user_id={person.id}"), "it may name somebody"
        await office.submit("/staff/reasons", page=f"/staff/reasons?next={home}", next=home, reason=WHY)
        assert reason in await office.page(f"{home}?user_id={person.id}"), "who decides has to know why they asked"
        lift = await office.submit(end, page=end, reason="The name was corrected.")
        assert lift.status_code == 303
        assert not await may(resources, person, None), "deciding ends nothing yet"
        ends = "SELECT lifts_at FROM processing_limits WHERE id = $1"
        for _ in range(1_500):
            if await superuser.fetchval(ends, limit):
                break
            await asyncio.sleep(0.02)
        assert "will be used again" in mailbox.to(person.email)[0].subject, "the person is told first"
        assert not await may(resources, person, None)
        clock.advance(timedelta(days=3, minutes=1))
        assert await may(resources, person, None)
        assert await may(resources, person, PRODUCT_NEWS)


async def test_a_restriction_without_a_mail_does_not_end(
    factory: Factory, resources: Resources, superuser: Any, mailbox: MailSink
) -> None:
    person, limit = await factory.person(Role.OWNER), new_id()
    await superuser.execute(
        "INSERT INTO processing_limits (id, user_id, purpose, reason, placed_at, lifting_asked_at)"
        " VALUES ($1, $2, $3, '', now(), now())",
        limit, person.id, EVERYTHING,
    )  # fmt: skip
    mailbox.knobs = MailKnobs(reply=451)
    try:
        with pytest.raises(MailFailed):
            async with acting(resources.database, resources) as ctx:
                await jobs.tell_before_it_ends(ctx, Event("consents.lift_restriction", "processing_limits", limit))
    finally:
        mailbox.knobs = MailKnobs()
    clock.advance(timedelta(days=30))
    assert not await may(resources, person, None)


async def test_whoever_ends_it_themselves_does_not_wait_for_our_mail(
    factory: Factory, resources: Resources, superuser: Any, mailbox: MailSink
) -> None:
    person, limit = await factory.person(Role.OWNER), new_id()
    await superuser.execute(
        "INSERT INTO processing_limits (id, user_id, purpose, reason, placed_at, lifting_asked_at)"
        " VALUES ($1, $2, $3, '', now(), now())",
        limit, person.id, EVERYTHING,
    )  # fmt: skip
    await superuser.execute(
        "INSERT INTO processing_limits (id, user_id, purpose, reason, placed_at, lifting_asked_at, lifts_at)"
        " VALUES ($1, $2, $3, '', now(), now(), $4)",
        new_id(), person.id, EVERYTHING, clock.now() + timedelta(days=3),
    )  # fmt: skip

    async def tell() -> None:
        with suppress(MailFailed):  # a provider that holds back its answer for too long is asked again later
            async with acting(resources.database, resources) as ctx:
                await jobs.tell_before_it_ends(ctx, Event("consents.lift_restriction", "processing_limits", limit))

    async with await factory.client(person) as client:
        mailbox.knobs = MailKnobs(hold=person.email)
        try:
            telling = asyncio.create_task(tell())
            while person.email not in mailbox.held:
                assert not telling.done()
                await asyncio.sleep(0.02)
            ended = await client.submit("/privacy/restriction/end", page=CHOICES)
            assert ended.status_code == 303
            assert await may(resources, person, None), "while the mail is still on its way"
        finally:
            mailbox.knobs = MailKnobs()
        await telling
    assert await may(resources, person, None), "their own wish holds at once"


async def test_nobody_rewrites_what_was_said(factory: Factory, resources: Resources) -> None:
    for damage in ("UPDATE consents SET given = true", "DELETE FROM consents"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with resources.database.unit_of_work(tenant=None) as work:
                await work.raw.execute(damage)
    async with resources.database.unit_of_work(tenant=None) as work:
        ctx = Context(work, resources, SYSTEM, Caller("test"))
        with pytest.raises(TypeError, match="say to which person"):
            await deliver(ctx, "a@example.com", "consents/mail/product", "x", subject="", text="", link="")
