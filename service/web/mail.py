"""Mails from templates: plain text is what people write, the HTML part is made from it, so the two never differ.

    letter("accounts/mail/reset", Reach.ASKED, link="https://app.example/reset/x")    # once, with sample values
    await deliver(ctx, address, "accounts/mail/reset", reference, link=...)           # in a job with `retry=PATIENT`

reads `features/accounts/templates/mail/reset.txt`. Its first line is `Subject: ...`; a line that is nothing but an
address becomes a link. Values appear in both parts as they are: what a person chose (a name) does not belong in a mail
that a stranger can trigger.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

from jinja2 import Environment
from markupsafe import Markup, escape

from service.core import telemetry
from service.core.context import Context
from service.core.crypto import sign
from service.core.logging import get_logger
from service.guardrails import mailing, switches
from service.guardrails.inbox import AcknowledgingPool
from service.guardrails.jobs import Retry
from service.guardrails.mailing import HOLDS_BACK, InDoubt, MailState, Reach
from service.guardrails.switches import Switch
from service.integrations.mail import Mail, Mailer, MailFailed, MailRefused
from service.web.templating import environment

PATIENT = Retry(attempts=24, first=timedelta(seconds=5))
"""Most of a day: as long as a mail server's bad day, or an operator's stop of all mail, may last."""
LINK = re.compile(r"https?://\S+")
UNSUBSCRIBE = "unsubscribe"
"""The purpose of a signed link that stops mail without a login."""

log = get_logger()


@dataclass(frozen=True, slots=True)
class Letter:
    """One template, how much it must be read, and values that show what it looks like."""

    template: str
    reach: Reach
    sample: Mapping[str, object]


LETTERS: dict[str, Letter] = {}


def letter(template: str, reach: Reach, **sample: object) -> None:
    """Declare a template; every template must be, with every value that it uses."""
    LETTERS[template] = Letter(template, reach, sample)


async def deliver(ctx: Context, to: str, template: str, reference: str, **values: object) -> None:
    """Send one mail, once. Raises MailFailed when the job shall try again: the provider is away, or mail is stopped.

    News can be unsubscribed from: with `unsubscribe=` its own link, without from all news to the address. Raises
    KeyError for a template that no `letter` declares.
    """
    kind = LETTERS[template]
    if await switches.is_on(ctx, Switch.STOP_MAIL):
        raise MailFailed("an operator has stopped all mail")
    mailer = ctx.resources.get(Mailer)
    unsubscribe = str(values.pop("unsubscribe", ""))
    if kind.reach is Reach.NOTICE and not unsubscribe:
        unsubscribe = unsubscribe_link(ctx, "address", to)
    subject, text, html = compose(template, unsubscribe=unsubscribe, **values)
    async with ctx.resources.get(AcknowledgingPool).connection() as raw:
        try:
            if not await mailing.claim(raw, reference, template, to, tells_later=mailer.tells_later):
                return
        except InDoubt:
            raise MailFailed("the answer to an earlier try was lost; waiting for news of it") from None
        if await mailing.causes(raw, to) & HOLDS_BACK[kind.reach]:
            await mailing.settle(raw, reference, MailState.SUPPRESSED)
            telemetry.mails.labels(MailState.SUPPRESSED.value).inc()
            return
    category, asked = template.replace("/mail/", "."), kind.reach is Reach.ASKED
    state = MailState.SENT
    try:
        await mailer.send(Mail(to, subject, text, html, reference, category, unsubscribe, asked))
    except MailRefused as refusal:
        # Mostly a mistyped address; tried again for a day it would only cost our good name with the receiver.
        log.error("mail refused", template=template, why=str(refusal))
        state = MailState.REFUSED
    except MailFailed as failure:
        telemetry.mails.labels("doubtful" if failure.doubtful else "failed").inc()
        if not failure.doubtful:
            await _settle(ctx, reference, MailState.WAITING)
        raise
    telemetry.mails.labels(state.value).inc()
    await _settle(ctx, reference, state)


async def _settle(ctx: Context, reference: str, state: MailState) -> None:
    async with ctx.resources.get(AcknowledgingPool).connection() as raw:
        await mailing.settle(raw, reference, state)


def unsubscribe_link(ctx: Context, *what: str) -> str:
    """An address that works without a login, for as long as the mail is kept (RFC 8058)."""
    return f"{ctx.settings.base_url.rstrip('/')}/unsubscribe/{sign(UNSUBSCRIBE, ' '.join(what).encode())}"


def compose(template: str, **values: object) -> tuple[str, str, str]:
    """(subject, text, HTML) of one mail; a missing value is an error."""
    unsubscribe = str(values.pop("unsubscribe", ""))
    head, _, body = _plain().get_template(f"{template}.txt").render(values).strip().partition("\n")
    if not head.startswith("Subject: "):
        raise ValueError(f"{template}.txt must begin with 'Subject: '")
    subject, text = head.removeprefix("Subject: ").strip(), body.strip() + "\n"
    parts = [_paragraph(part) for part in text.strip().split("\n\n")]
    html = environment().get_template("mail.html").render(subject=subject, parts=parts, unsubscribe=unsubscribe)
    return subject, f"{text}\n--\nNo more of these: {unsubscribe}\n" if unsubscribe else text, html


@lru_cache(maxsize=1)
def _plain() -> Environment:
    """The pages' environment without HTML escaping; the HTML part is escaped as a whole afterwards."""
    return environment().overlay(autoescape=False, bytecode_cache=None)


def _paragraph(text: str) -> Markup:
    # A whole line or nothing: somebody called "https://evil.example/x" must not begin a sentence that is a link.
    lines = [
        Markup('<a href="{0}">{0}</a>').format(line) if LINK.fullmatch(line) else escape(line)
        for line in text.strip().splitlines()
    ]
    return Markup("<br>\n").join(lines)
