"""Mail over real SMTP: what is sent, what is refused, what may be tried again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from infra.sandbox.mail import MailKnobs, MailSink
from service.core.settings import Environment, Settings
from service.integrations.mail import Mail, MailFailed, MailRefused
from service.integrations.mail.smtp import Smtp
from tests.integrations.conftest import Peer, Talk


@pytest.fixture
def sink(mailbox: MailSink) -> Iterator[MailSink]:
    yield mailbox
    mailbox.knobs = MailKnobs()


def ours(sink: MailSink) -> list[int]:
    """What arrived of these tests: late mails of others come into the same inbox."""
    return [one.id for one in sink.messages if "with ümlauts" in one.text]


def a_mail(to: str = "ada@example.com", subject: str = "Grüße", reference: str = "reset.1") -> Mail:
    return Mail(to, subject, "Plain, with ümlauts.\n", "<p>Rich</p>", reference)


async def test_a_mail_has_both_parts_and_says_who_it_is(sink: MailSink, settings: Settings) -> None:
    await Smtp(settings).send(a_mail("both@example.com"))
    (got,) = sink.to("both@example.com")
    headers = dict(got.headers)
    assert (got.subject, got.text.strip(), got.html.strip()) == ("Grüße", "Plain, with ümlauts.", "<p>Rich</p>")
    assert headers["From"] == settings.mail_from
    assert headers["Message-ID"] == "<reset.1@ballast.example>"
    assert headers["Auto-Submitted"] == "auto-generated"


@pytest.mark.parametrize(
    "broken",
    [
        a_mail(subject="Hello\r\nBcc: everybody@example.com"),
        a_mail(to="ada@example.com, eve@example.com"),
        a_mail(to="ada@example.com\r\nBcc: eve@example.com"),
        a_mail(reference="x>\r\nBcc: eve@example.com"),
    ],
)
async def test_nobody_adds_headers_or_recipients(sink: MailSink, settings: Settings, broken: Mail) -> None:
    before = ours(sink)
    with pytest.raises(ValueError, match=r".+"):
        await Smtp(settings).send(broken)
    assert ours(sink) == before


@pytest.mark.parametrize(("reply", "kind"), [(451, MailFailed), (550, MailRefused)])
async def test_no_for_now_and_no_for_good_differ(
    sink: MailSink, settings: Settings, reply: int, kind: type[Exception]
) -> None:
    sink.knobs = MailKnobs(reply=reply)
    with pytest.raises(MailFailed) as failed:
        await Smtp(settings).send(a_mail())
    assert type(failed.value) is kind
    assert "ada@example.com" not in str(failed.value)


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


async def slow_at_every_step(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Polite and always just in time: no single answer is late, all together are."""
    writer.write(b"220 welcome\r\n")
    in_message = False
    while line := await reader.readline():
        if in_message and line != b".\r\n":
            continue
        await asyncio.sleep(0.2)
        in_message = line.upper().startswith(b"DATA")
        writer.write(b"354 go on\r\n" if in_message else b"250 fine\r\n")
        await writer.drain()


@pytest.mark.parametrize("talk", [silence, slow_at_every_step])
async def test_a_server_that_comes_to_no_end_is_given_up_on(
    settings: Settings, peer: Peer, monkeypatch: pytest.MonkeyPatch, talk: Talk
) -> None:
    monkeypatch.setattr("service.integrations.mail.smtp.DEADLINE_SECONDS", 0.3)
    hanging = settings.model_copy(update={"smtp_url": SecretStr(f"smtp://127.0.0.1:{await peer(talk)}")})
    began = time.perf_counter()
    with pytest.raises(MailFailed, match="cannot be reached"):
        await Smtp(hanging).send(a_mail())
    assert time.perf_counter() - began < 3


async def test_production_sends_nothing_in_clear(sink: MailSink, settings: Settings) -> None:
    """The sandbox offers no TLS, so production refuses to hand it a mail."""
    before = ours(sink)
    with pytest.raises(MailFailed):
        await Smtp(settings.model_copy(update={"environment": Environment.PRODUCTION})).send(a_mail())
    assert ours(sink) == before


def test_an_address_of_another_kind_is_refused_at_the_start(settings: Settings) -> None:
    with pytest.raises(ValueError, match="smtp"):
        Smtp(settings.model_copy(update={"smtp_url": SecretStr("http://mail.example.com")}))
