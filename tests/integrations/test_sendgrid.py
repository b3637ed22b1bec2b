"""SendGrid over real HTTP: what is sent, what each answer means, and which tries may have succeeded unseen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from pydantic import SecretStr

from infra.sandbox.mail import MailSink
from infra.sandbox.ports import free_port
from infra.sandbox.sendgrid import SendGridKnobs, SendGridStandIn
from service.core.regions import MailThrough
from service.core.settings import Environment, Settings
from service.guardrails.circuit_breaker import CircuitOpen
from service.integrations.http import HttpClient
from service.integrations.mail import Mail, Mailer, MailFailed, MailRefused, mailer_of


@pytest.fixture(scope="module")
def far(mailbox: MailSink) -> Iterator[SendGridStandIn]:
    with SendGridStandIn(mailbox) as stand_in:
        yield stand_in


@pytest.fixture
def through_sendgrid(far: SendGridStandIn, settings: Settings) -> Iterator[Settings]:
    yield settings.model_copy(update={"mail_through": MailThrough.SENDGRID, "sendgrid_api_base": far.address})
    far.knobs = SendGridKnobs()


@pytest.fixture
async def mailer(through_sendgrid: Settings) -> AsyncIterator[Mailer]:
    http = HttpClient(through_sendgrid)
    yield mailer_of(through_sendgrid, http)
    await http.aclose()


def a_mail(to: str = "ada@example.com", **more: str | bool) -> Mail:
    return Mail(to, "Grüße", "Plain, with ümlauts.\n", "<p>Rich</p>", "reset.1", "accounts.reset", **more)  # type: ignore[arg-type]


async def test_a_mail_carries_its_reference_and_is_not_tracked(far: SendGridStandIn, mailer: Mailer) -> None:
    await mailer.send(a_mail("sg@example.com", unsubscribe="https://app.example/unsubscribe/x", asked_for=True))
    (got,) = far.inbox.to("sg@example.com")
    assert (got.subject, got.text, got.html) == ("Grüße", "Plain, with ümlauts.\n", "<p>Rich</p>")
    headers = dict(got.headers)
    assert headers["List-Unsubscribe"] == "<https://app.example/unsubscribe/x>"
    assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    sent = far.requests[-1]
    assert sent["personalizations"][0]["custom_args"] == {"reference": "reset.1"}
    assert sent["categories"] == ["accounts.reset"]
    assert not sent["tracking_settings"]["click_tracking"]["enable"], "one-time links must not lead through SendGrid"
    assert sent["mail_settings"] == {"bypass_list_management": {"enable": True}}


@pytest.mark.parametrize(
    ("knobs", "kind", "doubtful"),
    [
        (SendGridKnobs(status=400), MailRefused, False),
        (SendGridKnobs(status=413), MailRefused, False),
        (SendGridKnobs(status=401), MailFailed, False),
        (SendGridKnobs(status=403), MailFailed, False),
        (SendGridKnobs(status=429), MailFailed, False),
        (SendGridKnobs(outage=True), MailFailed, True),
        (SendGridKnobs(lose_answer=True), MailFailed, True),
    ],
)
async def test_each_answer_says_what_may_be_done(
    far: SendGridStandIn, mailer: Mailer, knobs: SendGridKnobs, kind: type[MailFailed], doubtful: bool
) -> None:
    far.knobs = knobs
    with pytest.raises(MailFailed) as failed:
        await mailer.send(a_mail())
    assert (type(failed.value), failed.value.doubtful) == (kind, doubtful)
    assert "ada@example.com" not in str(failed.value)


async def test_what_is_wrong_with_a_mail_is_final(mailer: Mailer) -> None:
    with pytest.raises(MailRefused):
        await mailer.send(a_mail("ada@example.com, eve@example.com"))
    with pytest.raises(ValueError, match="line break"):
        await mailer.send(a_mail("ada@example.com\r\nBcc: eve@example.com"))


async def test_silence_is_doubt_and_a_closed_door_is_not(
    far: SendGridStandIn, mailer: Mailer, through_sendgrid: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.integrations.mail.sendgrid.DEADLINE_SECONDS", 0.2)
    far.knobs = SendGridKnobs(latency=1)
    with pytest.raises(MailFailed) as silent:
        await mailer.send(a_mail())
    assert silent.value.doubtful
    away = through_sendgrid.model_copy(update={"sendgrid_api_base": f"http://127.0.0.1:{free_port()}"})
    http = HttpClient(away)
    nobody = mailer_of(away, http)
    for _ in range(5):
        with pytest.raises(MailFailed) as closed:
            await nobody.send(a_mail())
        assert not closed.value.doubtful
    with pytest.raises(MailFailed) as resting:
        await nobody.send(a_mail())
    assert isinstance(resting.value.__cause__, CircuitOpen), "five in a row, and nobody waits for the sixth"
    await http.aclose()


async def test_the_key_is_checked_and_an_address_forgotten(
    far: SendGridStandIn, mailer: Mailer, through_sendgrid: Settings
) -> None:
    assert await mailer.check() == "SendGrid accepts the key"
    far.spared["ada+x@example.com"] = "bounce"
    await mailer.forget("ada+x@example.com")
    assert far.spared == {}
    wrong = through_sendgrid.model_copy(update={"sendgrid_api_key": SecretStr("SG.another")})
    http = HttpClient(wrong)
    with pytest.raises(MailFailed, match="401"):
        await mailer_of(wrong, http).check()
    await http.aclose()


async def test_production_asks_nobody_in_this_network(through_sendgrid: Settings) -> None:
    http = HttpClient(live := through_sendgrid.model_copy(update={"environment": Environment.PRODUCTION}))
    with pytest.raises(MailFailed):
        await mailer_of(live, http).send(a_mail())
    await http.aclose()
    await asyncio.sleep(0)
