"""Mails: sent after the commit, again until taken, never with an address in the queue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from infra.sandbox.mail import MailKnobs, MailSink
from service.core import clock
from service.core.context import ANONYMOUS, Caller, Context, Resources
from service.core.database import Database, UnitOfWork
from service.core.ids import new_id
from service.core.settings import Settings
from service.features.accounts import actions, jobs
from service.features.accounts.jobs import NOTICES, send_mail, send_requested_link
from service.features.accounts.models import OneTimeToken, Purpose, User
from service.features.accounts.schemas import SignUp
from service.guardrails import switches
from service.guardrails.actions import RULES
from service.guardrails.jobs import Event
from service.integrations.mail import MailFailed
from service.web.mail import compose
from tests.features.accounts.conftest import PASSWORD, Post
from tests.features.accounts.test_sign_up import new_address, sign_up
from tests.support.client import Client
from tests.support.factories import Factory, Person

TEMPLATES = Path(jobs.__file__).parent / "templates" / "mail"


@asynccontextmanager
async def acting(
    resources: Resources, *, keep: bool = True, database: Database | None = None
) -> AsyncIterator[Context]:
    """A context; with `keep=False` what it did is rolled back."""
    async with (database or resources.database).connection() as connection:
        work = UnitOfWork(connection)
        await work.begin(tenant=None, user=None, read_only=False)
        try:
            yield Context(work, resources, ANONYMOUS, Caller(request_id="test"))
            if keep:
                await work.commit()
        finally:
            await work.close()


@pytest.fixture
def sink(mailbox: MailSink) -> Any:
    yield mailbox
    mailbox.knobs = MailKnobs()


@pytest.fixture
async def all_seeing(servers: Any, database_name: str, settings: Settings) -> AsyncIterator[Database]:
    made = Database(servers.postgres.url("postgres", database_name), settings, name="test", size=1)
    yield made
    await made.dispose()


async def test_the_queue_and_the_audit_log_hold_no_address(
    person: Person, resources: Resources, all_seeing: Database
) -> None:
    """Looked at before the commit, while no worker can take anything away; the application may not read the queue."""
    email = new_address()
    async with acting(resources, keep=False, database=all_seeing) as ctx:
        await actions.request_link(ctx, person.email, Purpose.RESET)
        await actions.request_link(ctx, email, Purpose.RESET)
        await actions.sign_up(ctx, SignUp(name="Nora", email=email, password=SecretStr(PASSWORD)))
        me = "xmin = pg_current_xact_id()::xid"
        queued = await ctx.work.raw.fetch(f"SELECT convert_from(payload, 'utf8'), headers FROM pgqueuer WHERE {me}")
        rows = await ctx.work.raw.fetch(f"SELECT facts, changes FROM audit_log WHERE {me}")
    assert (len(queued), len(rows)) == (3, 3), "an unknown address makes the same rows as a known one"
    text = str([tuple(row) for row in (*queued, *rows)])
    assert str(person.id) in text
    assert "example.com" not in text
    assert "Nora" not in text


async def test_a_server_that_refuses_for_now_gets_it_later(
    sink: MailSink, person: Person, resources: Resources
) -> None:
    arguments: dict[str, Any] = {
        "template": "notice",
        "mail_id": new_id(),
        "user_id": person.id,
        "what": "accounts.change_password",
    }
    for knobs in (MailKnobs(reply=451), MailKnobs(hang_up=True)):
        sink.knobs = knobs
        async with acting(resources, keep=False) as ctx:
            with pytest.raises(MailFailed):
                await send_mail(ctx, **arguments)
    assert not sink.to(person.email)
    sink.knobs = MailKnobs()
    async with acting(resources) as ctx:
        await send_mail(ctx, **arguments)
    assert [message.subject for message in sink.to(person.email)] == ["Your account was changed"]


async def test_a_no_for_good_is_believed(sink: MailSink, person: Person, resources: Resources) -> None:
    """No such mailbox: the job ends, instead of trying for a day and becoming a dead letter."""
    sink.knobs = MailKnobs(reply=550)
    async with acting(resources) as ctx:
        await send_mail(ctx, template="notice", mail_id=new_id(), user_id=person.id, what="accounts.change_password")
    assert not sink.to(person.email)


async def test_a_mail_that_is_sent_twice_is_the_same_mail(sink: MailSink, person: Person, resources: Resources) -> None:
    """The server took it and died before saying so: same Message-ID, same link, and the link works."""
    async with acting(resources) as ctx:
        user = await ctx.get(User, person.id, lock=False)
        token = OneTimeToken.for_user(user, Purpose.RESET)
        ctx.add(token)
    arguments: dict[str, Any] = {"template": "reset", "mail_id": new_id(), "user_id": person.id, "token_id": token.id}
    sink.knobs = MailKnobs(lose_reply=True)
    async with acting(resources, keep=False) as ctx:
        with pytest.raises(MailFailed):
            await send_mail(ctx, **arguments)
    sink.knobs = MailKnobs()
    async with acting(resources) as ctx:
        await send_mail(ctx, **arguments)
    first, second = sink.to(person.email)
    assert first.links == second.links
    assert dict(first.headers)["Message-ID"] == dict(second.headers)["Message-ID"]


async def test_an_operator_can_stop_all_mail(
    sink: MailSink, person: Person, resources: Resources, superuser: asyncpg.Connection[Any]
) -> None:
    arguments: dict[str, Any] = {
        "template": "notice",
        "mail_id": new_id(),
        "user_id": person.id,
        "what": "accounts.change_password",
    }
    await superuser.execute(
        "INSERT INTO switches (name, is_on, reason, changed_at) VALUES ('stop_mail', true, '', now())"
        " ON CONFLICT (name) DO UPDATE SET is_on = true"
    )
    switches._known.clear()
    try:
        async with acting(resources, keep=False) as ctx:
            with pytest.raises(MailFailed, match="stopped"):
                await send_mail(ctx, **arguments)
    finally:
        await superuser.execute("DELETE FROM switches WHERE name = 'stop_mail'")
        switches._known.clear()
    assert not sink.to(person.email)


async def test_links_that_come_too_late_are_not_sent(sink: MailSink, person: Person, resources: Resources) -> None:
    """The worker was away for an hour: a reset that nobody waits for any more looks like a fraud."""
    facts = {"account": str(person.id), "asked_at": str(clock.now()), "purpose": "reset"}
    asked = Event("accounts.request_link", "", None, facts)
    async with acting(resources) as ctx:
        user = await ctx.get(User, person.id, lock=False)
        token = OneTimeToken.for_user(user, Purpose.RESET)
        ctx.add(token)
    clock.advance(timedelta(hours=1))
    async with acting(resources) as ctx:
        await send_requested_link(ctx, asked)
        await send_mail(ctx, template="reset", mail_id=new_id(), user_id=person.id, token_id=token.id)
        found = await ctx.work.raw.fetchval("SELECT count(*) FROM one_time_tokens WHERE user_id = $1", person.id)
    assert found == 1
    assert not sink.to(person.email)


async def test_a_purged_person_gets_no_mail(sink: MailSink, resources: Resources) -> None:
    reference = new_id()
    async with acting(resources) as ctx:
        await send_mail(ctx, template="notice", mail_id=reference, user_id=new_id(), what="accounts.change_password")
    assert str(reference) not in str([one.headers for one in list(sink.messages)])


async def test_deleting_for_good_takes_everything_along(
    factory: Factory, maintenance: Database, superuser: asyncpg.Connection[Any]
) -> None:
    """What the purge relies on: links, codes and connections go with the person."""
    person = await factory.person()
    tables = ("one_time_tokens", "recovery_codes", "external_identities")
    await superuser.execute(
        "INSERT INTO one_time_tokens (id, user_id, purpose, bound_to, created_at, expires_at)"
        " VALUES ($1, $2, 'reset', '', now(), now())",
        new_id(), person.id,
    )  # fmt: skip
    await superuser.execute(
        "INSERT INTO recovery_codes (id, user_id, code_hash, created_at) VALUES ($1, $2, $3, now())",
        new_id(), person.id, person.id.bytes,
    )  # fmt: skip
    await superuser.execute(
        "INSERT INTO external_identities (id, user_id, issuer, subject, created_at) VALUES ($1, $2, 'i', $3, now())",
        new_id(), person.id, person.id.hex,
    )  # fmt: skip
    async with maintenance.unit_of_work() as work:
        await work.raw.execute("DELETE FROM users WHERE id = $1", person.id)
    for table in tables:
        assert await superuser.fetchval(f"SELECT count(*) FROM {table} WHERE user_id = $1", person.id) == 0


@pytest.mark.parametrize("template", sorted(path.stem for path in TEMPLATES.glob("*.txt")))
def test_each_mail_reads_well_in_both_parts(template: str) -> None:
    link = "https://app.example.com/reset/abc"
    subject, text, html = compose(
        f"accounts/mail/{template}", link=link, base_url="https://app.example.com", what="It's <done>."
    )
    assert 10 <= len(subject) <= 60
    assert max(len(line) for line in text.splitlines()) < 200
    assert "{{" not in text + html
    assert "<done>" not in html
    for address in (line for line in text.splitlines() if line.startswith("https://")):
        assert f'<a href="{address}">' in html


def test_what_somebody_typed_becomes_no_link() -> None:
    name = "https://evil.example/x"
    html = compose("organizations/mail/invitation", inviter=name, organization="Acme", role="admin", link="https://a")[
        2
    ]
    assert name in html
    assert '<a href="https://a">' in html
    assert f'<a href="{name}' not in html


def test_every_notice_names_an_action() -> None:
    assert len(list(TEMPLATES.glob("*.txt"))) == 6
    assert set(NOTICES) <= set(RULES)


async def test_the_whole_way_through_the_worker(visitor: Client, post: Post) -> None:
    email = new_address()
    await sign_up(visitor, email)
    (mail,) = await post.to(email)
    assert mail.to == [email]
    assert dict(mail.headers)["Auto-Submitted"] == "auto-generated"
    assert "Nora" not in mail.text + mail.html, "what a stranger typed is not mailed to anybody"
