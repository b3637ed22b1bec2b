"""SendGrid's events over HTTP: only its own count, each once, and they decide where mail goes."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from infra.sandbox.sendgrid import SendGridKnobs
from service.core import clock, telemetry
from service.guardrails import mailing
from service.guardrails.inbox import opened
from service.guardrails.permissions import Role
from service.integrations.mail import MailFailed
from service.integrations.mail.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER
from tests.features.erasure.canary import in_tables
from tests.features.notifications.office import Office
from tests.support.factories import Person

pytest_plugins = ("tests.guardrails.durability", "tests.features.notifications.post_office")


async def rows(office: Office) -> int:
    return int(await office.superuser.fetchval("SELECT count(*) FROM inbox WHERE source = 'sendgrid'"))


async def test_junk_never_makes_a_row(office: Office, reader: Person) -> None:
    event, before = office.event(reader.email, "bounce", type="bounce"), await rows(office)
    body = orjson.dumps([event])
    stranger = ec.generate_private_key(ec.SECP256R1())
    forged = base64.b64encode(stranger.sign(b"1" + body, ec.ECDSA(SHA256()))).decode()
    refused: list[dict[str, str]] = [
        {SIGNATURE_HEADER: ""},
        {TIMESTAMP_HEADER: ""},
        {SIGNATURE_HEADER: "no base64!"},
        {SIGNATURE_HEADER: base64.b64encode(b"no signature").decode()},
        {SIGNATURE_HEADER: forged, TIMESTAMP_HEADER: "1"},
        {TIMESTAMP_HEADER: "1700000000"},
        {TIMESTAMP_HEADER: "9" * 40},
    ]
    for headers in refused:
        answer = await office.post(event, **headers)
        assert answer.status_code == 400, headers
        assert reader.email not in answer.text
    broken: list[Any] = [{"event": "bounce"}, "text", {"sg_event_id": "a\0b", "event": "bounce"}]
    for one in broken:
        assert (await office.post(event, one)).status_code == 400, "all of a delivery, or nothing"
    assert await rows(office) == before
    assert await office.causes(reader.email) == set()


async def test_what_comes_twice_counts_once(office: Office, reader: Person) -> None:
    event, before = office.event(reader.email, "spamreport"), await rows(office)
    other = office.event(reader.email, "open")
    for expected in ("2 new", "0 new"):
        assert (await office.post(event, event, other)).text == expected
    assert await rows(office) == before + 2
    await office.work_off()
    assert await office.causes(reader.email) == {"complaint"}
    left = await office.superuser.fetch(
        "SELECT state, body FROM inbox WHERE external_id = ANY($1) ORDER BY state",
        [event["sg_event_id"], other["sg_event_id"]],
    )
    assert [row["state"] for row in left] == ["ignored", "processed"]
    assert left[1]["body"] is None, "the address goes as soon as it is not needed"


@pytest.mark.parametrize(
    ("kind", "more", "causes"),
    [
        ("bounce", {"type": "bounce", "status": "5.1.1"}, {"bounce"}),
        ("bounce", {"type": "blocked"}, set()),
        ("deferred", {}, set()),
        ("delivered", {}, set()),
        ("dropped", {"reason": "Bounced Address"}, {"bounce"}),
        ("dropped", {"reason": "Spam Reporting Address"}, {"complaint"}),
        ("spamreport", {}, {"complaint"}),
        ("unsubscribe", {}, {"unsubscribed"}),
        ("group_unsubscribe", {}, {"unsubscribed"}),
    ],
)
async def test_each_event_says_what_it_says(
    office: Office, reader: Person, kind: str, more: dict[str, str], causes: set[str]
) -> None:
    await office.hear(office.event(reader.email.upper(), kind, **more))
    assert await office.causes(reader.email) == causes


async def test_of_somebody_we_do_not_know_no_address_is_kept(office: Office, reader: Person) -> None:
    """Another product may send through the same account: what it is told holds our mail back, too, by a hash alone."""
    stranger = f"stranger-{reader.id.hex}@example.com"
    await office.hear(*(office.event(one, "bounce", type="bounce") for one in (stranger, reader.email)))
    await office.hear(
        office.event(stranger, "open"), office.event(stranger, "delivered", reference="another product's")
    )
    assert [await office.causes(one) for one in (stranger, reader.email)] == [{"bounce"}, {"bounce"}]
    left = await in_tables(office.superuser, stranger)
    rows = await office.superuser.fetch("SELECT * FROM inbox WHERE body IS NOT NULL")
    left |= {f"inbox {row['type']}" for row in rows if stranger.encode() in opened(row)}
    assert not left
    known = "SELECT count(*) FROM mail_suppressions WHERE email = $1"
    assert await office.superuser.fetchval(known, reader.email) == 1, (
        "whom the provider is told about when it is lifted"
    )


async def test_an_event_nobody_understands_holds_up_no_other(office: Office, reader: Person) -> None:
    odd = office.event(reader.email, "bounce", type="bounce", timestamp="yesterday")
    await office.hear(odd, office.event(reader.email, "spamreport"))
    assert await office.causes(reader.email) == {"complaint"}
    row = await office.superuser.fetchrow("SELECT * FROM inbox WHERE external_id = $1", odd["sg_event_id"])
    assert row is not None
    assert (row["state"], row["last_error"]) == ("pending", "ValueError")


async def test_an_event_that_the_database_refuses_holds_up_no_other(office: Office, reader: Person) -> None:
    odd = office.event("a\0b@example.com", "bounce", type="bounce")
    await office.hear(odd, office.event(reader.email, "spamreport"))
    assert await office.causes(reader.email) == {"complaint"}
    find = "SELECT last_error FROM inbox WHERE external_id = $1"
    assert await office.superuser.fetchval(find, odd["sg_event_id"]) == "CharacterNotInRepertoireError"


ASKED, MUST, NEWS = "accounts/mail/reset", "accounts/mail/notice", "notifications/mail/news"


@pytest.mark.parametrize(
    ("kind", "goes"),
    [("spamreport", [ASKED]), ("unsubscribe", [ASKED, MUST]), ("bounce", [ASKED])],
)
async def test_how_much_it_must_be_read_decides(office: Office, reader: Person, kind: str, goes: list[str]) -> None:
    await office.hear(office.event(reader.email, kind, type="bounce"))
    for template in (ASKED, MUST, NEWS):
        reference = await office.send(reader.email, template)
        assert await office.state(reference) == ("sent" if template in goes else "suppressed")
    assert len(office.got(reader.email)) == len(goes)


async def test_a_lost_answer_mails_once_where_the_provider_tells(office: Office, reader: Person) -> None:
    """Taken, and answered with 500: the next try waits for news, and the news says that it was sent."""
    office.sendgrid.knobs = SendGridKnobs(lose_answer=True)
    with pytest.raises(MailFailed):
        await office.send(reader.email, reference=f"lost.{reader.id}")
    office.sendgrid.knobs = SendGridKnobs()
    with pytest.raises(MailFailed, match="waiting for news"):
        await office.send(reader.email, reference=f"lost.{reader.id}")
    await office.hear(office.event(reader.email, "processed", reference=f"lost.{reader.id}"))
    await office.send(reader.email, reference=f"lost.{reader.id}")
    assert len(office.got(reader.email)) == 1


async def test_a_lost_answer_without_news_mails_again(office: Office, reader: Person) -> None:
    """The honest limit: one too many, after two minutes of silence, rather than none."""
    office.sendgrid.knobs = SendGridKnobs(lose_answer=True)
    with pytest.raises(MailFailed):
        await office.send(reader.email, reference=f"lost.{reader.id}")
    office.sendgrid.knobs = SendGridKnobs()
    clock.advance(timedelta(seconds=121))
    await office.send(reader.email, reference=f"lost.{reader.id}")
    assert len(office.got(reader.email)) == 2


async def test_provider_down_nothing_lost_nothing_twice_and_those_in_charge_see_it(
    office: Office, reader: Person
) -> None:
    owner = await office.factory.person(Role.OWNER)
    member = await office.factory.person(Role.MEMBER, owner.organization_id)
    office.sendgrid.knobs = SendGridKnobs(status=429)
    for _ in range(3):
        with pytest.raises(MailFailed):
            await office.send(reader.email, reference=f"down.{reader.id}")
    await office.superuser.execute("UPDATE sent_mails SET first_tried_at = now() - interval '5 minutes'")
    await office.superuser.execute("UPDATE sent_mails SET accepted_at = now() - interval '9 minutes'")
    mailing._known.clear()
    async with await office.factory.client(owner) as boss, await office.factory.client(member) as other:
        assert "Mail is late" in await boss.page("/indicators")
        assert "Mail is late" not in await other.page("/indicators")
        await mailing.measure(office.resources)
        assert telemetry.mail_late._value.get() >= 299
        office.sendgrid.knobs = SendGridKnobs()
        for _ in range(2):
            await office.send(reader.email, reference=f"down.{reader.id}")
        mailing._known.clear()
        assert "Mail is late" not in await boss.page("/indicators")
    await mailing.measure(office.resources)
    assert telemetry.mail_late._value.get() == 0
    assert len(office.got(reader.email)) == 1
