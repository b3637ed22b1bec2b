"""The mail sink shows what was sent, safely, and fails when told to."""

from __future__ import annotations

import asyncio
import time
from email.message import EmailMessage

import aiosmtplib
import httpx
import pytest

from infra.sandbox.mail import MailKnobs, MailSink

LINK = "http://127.0.0.1:8000/verify?token=abc-123"


def letter(to: str = "ada@example.com", subject: str = "Confirm <your> address") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "hello@ballast.example", to, subject
    message.set_content(f"Welcome, Zoë.\n\nOpen {LINK}. Thank you!\n")
    message.add_alternative(f'<p>Welcome</p><a href="{LINK}">Open</a><script>alert(1)</script>', subtype="html")
    return message


async def send(mail: MailSink, message: EmailMessage | None = None, seconds: float = 5) -> None:
    await aiosmtplib.send(message or letter(), hostname=mail.host, port=mail.smtp_port, timeout=seconds)


async def test_a_sent_mail_is_in_the_inbox_the_page_and_the_json(mail: MailSink) -> None:
    await send(mail)
    await send(mail, letter("grace@example.com", "Second"))
    async with httpx.AsyncClient(base_url=mail.address) as browser:
        found = (await browser.get("/api/messages", params={"to": "ADA@example.com"})).json()["messages"]
        assert [one["subject"] for one in found] == ["Confirm <your> address"]
        assert found[0]["links"] == [LINK]
        assert found[0]["text"].startswith("Welcome, Zoë.")
        inbox = await browser.get("/")
        assert inbox.text.index("Second") < inbox.text.index("Confirm &lt;your&gt; address"), "newest first, escaped"
        one = (await browser.get(f"/messages/{found[0]['id']}")).text
        assert f'<a href="{LINK}"' in one
        assert 'sandbox="allow-popups allow-popups-to-escape-sandbox"' in one
        assert (await browser.get("/messages/99")).status_code == 404
    assert [message.subject for message in mail.to("grace@example.com")] == ["Second"]


async def test_no_page_may_run_a_script(mail: MailSink) -> None:
    await send(mail)
    number = mail.messages[0].id
    async with httpx.AsyncClient(base_url=mail.address) as browser:
        for path in ("/", f"/messages/{number}", "/faults"):
            answer = await browser.get(path)
            assert answer.status_code == 200
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert "script-src" not in answer.headers["content-security-policy"]
            assert "<script" not in answer.text
            assert "style=" not in answer.text
        html = await browser.get(f"/messages/{number}/html")
        assert "<script>" in html.text, "shown as it was sent"
        assert "sandbox allow-popups allow-popups-to-escape-sandbox" in html.headers["content-security-policy"]


async def test_every_template_is_shown_with_sample_values(mail: MailSink) -> None:
    async with httpx.AsyncClient(base_url=mail.address, verify=False) as browser:
        page = (await browser.get("/templates")).text
        assert "billing: payment_failed" in page
        chosen = {"name": "accounts/mail/reset"}
        shown = await browser.get("/templates", params=chosen)
        assert "Choose another password" in shown.text
        assert "/reset/7Yt0sample" in shown.text
        framed = await browser.get("/templates/html", params=chosen)
        assert "/reset/7Yt0sample" in framed.text
        assert "script-src" not in framed.headers["content-security-policy"]
        assert (await browser.get("/templates", params={"name": "no/such"})).status_code == 404


async def test_clearing_empties_the_inbox(mail: MailSink) -> None:
    await send(mail)
    async with httpx.AsyncClient(base_url=mail.address, follow_redirects=True) as browser:
        assert "Nothing here yet" in (await browser.post("/clear")).text
        assert (await browser.get("/api/messages")).json() == {"messages": []}


async def test_told_to_hang_up_it_takes_no_mail_on_new_or_open_connections(mail: MailSink) -> None:
    open_connection = aiosmtplib.SMTP(hostname=mail.host, port=mail.smtp_port, timeout=5)
    await open_connection.connect()
    mail.knobs = MailKnobs(hang_up=True)
    with pytest.raises(aiosmtplib.SMTPServerDisconnected):
        await open_connection.send_message(letter())
    with pytest.raises((aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPConnectError)):
        await send(mail)
    assert not mail.messages


@pytest.mark.parametrize("code", [451, 550])
async def test_told_to_refuse_it_answers_the_code(mail: MailSink, code: int) -> None:
    async with httpx.AsyncClient(base_url=mail.address) as browser:
        assert (await browser.post("/api/knobs", json={"reply": code})).status_code == 200
        with pytest.raises(aiosmtplib.SMTPDataError) as refused:
            await send(mail)
        assert refused.value.code == code
        assert (await browser.delete("/api/knobs")).json()["reply"] == 0
    await send(mail)
    assert len(mail.messages) == 1


async def test_told_to_lose_its_reply_it_keeps_the_mail_and_the_sender_does_not_know(mail: MailSink) -> None:
    mail.knobs = MailKnobs(lose_reply=True)
    with pytest.raises(aiosmtplib.SMTPServerDisconnected):
        await send(mail)
    assert len(mail.messages) == 1


async def test_told_to_be_slow_it_is(mail: MailSink) -> None:
    mail.knobs = MailKnobs(delay=0.3)
    started = time.monotonic()
    await send(mail)
    assert time.monotonic() - started >= 0.3


async def test_told_to_hold_one_address_it_answers_the_others(mail: MailSink) -> None:
    mail.knobs = MailKnobs(hold="ada@example.com")
    waiting = asyncio.create_task(send(mail, seconds=60))
    while not mail.held:
        await asyncio.sleep(0.01)
    await send(mail, letter("grace@example.com", "Another's"))
    assert [one.subject for one in mail.messages] == ["Another's"]
    assert not waiting.done()
    mail.knobs = MailKnobs()
    await waiting
    assert len(mail.messages) == 2
    assert mail.held == []


@pytest.mark.parametrize("body", [b'{"nonsense": true}', b'{"reply": 250}', b'{"delay": "x"}', b"[1]", b"{", b"\xff"])
async def test_a_wrong_knob_is_refused_with_its_name(mail: MailSink, body: bytes) -> None:
    async with httpx.AsyncClient(base_url=mail.address) as browser:
        answer = await browser.post("/api/knobs", content=body)
    assert answer.status_code == 422
    assert answer.json()["error"]
    assert mail.knobs == MailKnobs()


async def test_a_person_turns_knobs_on_the_faults_page(mail: MailSink) -> None:
    async with httpx.AsyncClient(base_url=mail.address, follow_redirects=True) as browser:
        page = await browser.post("/faults", data={"hang_up": "true", "reply": "0", "delay": "1.5"})
        assert page.status_code == 200
        assert mail.knobs == MailKnobs(hang_up=True, delay=1.5)
        assert "A fault is switched on" in (await browser.get("/")).text
        refused = await browser.post("/faults", data={"reply": "200", "delay": "0"})
        assert refused.status_code == 422
        assert "400 to 599" in refused.text
        await browser.post("/faults", data={"reply": "0", "delay": "0"})
    assert mail.knobs == MailKnobs()


async def test_strange_mail_is_shown_not_dropped(mail: MailSink) -> None:
    raw = b"Subject: =?utf-8?q?odd?=\r\nContent-Type: text/plain; charset=klingon\r\n\r\nbytes \xff\xfe here\r\n"
    await aiosmtplib.send(
        raw, sender="a@example.com", recipients=["b@example.com"], hostname=mail.host, port=mail.smtp_port, timeout=5
    )
    assert mail.messages[0].subject == "odd"
    assert "bytes" in mail.messages[0].text
