"""Mails from templates: plain text is what people write, the HTML part is made from it, so the two never differ.

    letter("accounts/mail/reset", Reach.ASKED, link="https://app.example/reset/x")    # once, with sample values
    await deliver(ctx, address, "accounts/mail/reset", reference, link=...)           # in a job with `retry=PATIENT`

reads `features/accounts/templates/mail/reset.txt`. Its first line is `Subject: ...`; a line that is nothing but an
address becomes a link. Values appear in both parts as they are: what a person chose (a name) does not belong in a mail
that a stranger can trigger. A notice also says which `person` it goes to (None: no account of ours): nobody gets one
whose data are restricted, or who may not be written to for its `purpose` (guardrails.purposes).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from types import EllipsisType
from uuid import UUID

from jinja2 import Environment
from markupsafe import Markup, escape

from service.core import telemetry
from service.core.context import Context, Resources
from service.core.crypto import BadSignature, conceal, reveal, unsign
from service.core.logging import get_logger
from service.core.masking import masked
from service.guardrails import hipaa, mailing, purposes, switches
from service.guardrails.inbox import AcknowledgingPool
from service.guardrails.jobs import Retry
from service.guardrails.mailing import HOLDS_BACK, Connection, InDoubt, MailState, Reach
from service.guardrails.purposes import Purpose
from service.guardrails.residency import region_of
from service.guardrails.switches import Switch
from service.integrations.mail import Mail, Mailer, Mailers, MailFailed, MailRefused
from service.web.templating import environment

PATIENT = Retry(attempts=24, first=timedelta(seconds=5))
"""Most of a day: as long as a mail server's bad day, or an operator's stop of all mail, may last."""
NEUTRAL = "notifications/mail/neutral"
WORDLESS = frozenset({"link", "base_url", "minutes", "days"})
"""Values that say nothing about anybody: letters with others become NEUTRAL where health data is kept."""
LINK = re.compile(r"https?://\S+")
STOPS, STOPPED = "unsubscribe.sealed", "unsubscribe"
"""The purpose of a link that stops mail without a login; and that of older mails, where it was signed and readable:
they lie in people's mailboxes for years."""

log = get_logger()


@dataclass(frozen=True, slots=True)
class Letter:
    """One template, how much it must be read, and values that show what it looks like."""

    template: str
    reach: Reach
    sample: Mapping[str, object]
    purpose: Purpose | None = None


LETTERS: dict[str, Letter] = {}


def letter(template: str, reach: Reach, purpose: Purpose | None = None, /, **sample: object) -> None:
    """Declare a template; every template must be, with every value that it uses."""
    if purpose is not None:
        purposes.SERVED.setdefault(purpose.name, []).append(template)
    LETTERS[template] = Letter(template, reach, sample, purpose)


async def deliver(
    ctx: Context,
    to: str,
    template: str,
    reference: str,
    person: UUID | EllipsisType | None = ...,
    /,
    **values: object,
) -> None:
    """Send one mail, once. Raises MailFailed when the job shall try again: the provider is away, or mail is stopped.

    The mail pool is the one of the acting organization's region. News can be unsubscribed from: with `unsubscribe=` its
    own link, without from all news to the address. Raises KeyError for a template that no `letter` declares, TypeError
    for a notice that does not say to whom it goes.
    """
    await hand_over(ctx.resources, await compose_for(ctx, to, template, reference, person, **values))


@dataclass(frozen=True, slots=True)
class Ready:
    """A mail that lacks nothing but its sending."""

    mail: Mail
    template: str
    person: UUID | EllipsisType | None
    mailer: Mailer


async def compose_for(
    ctx: Context,
    to: str,
    template: str,
    reference: str,
    person: UUID | EllipsisType | None = ...,
    /,
    **values: object,
) -> Ready:
    """The first half of `deliver`, for whoever closes their unit of work before anything is sent."""
    kind = LETTERS[template]
    if isinstance(person, EllipsisType) and (kind.reach is Reach.NOTICE or kind.purpose is not None):
        raise TypeError(f"{template} is a notice: say to which person, or people who want their data left alone get it")
    if await switches.is_on(ctx, Switch.STOP_MAIL):
        raise MailFailed("an operator has stopped all mail")
    mailer = ctx.resources.get(Mailers).of(await region_of(ctx))
    unsubscribe = str(values.pop("unsubscribe", ""))
    if kind.reach is Reach.NOTICE and not unsubscribe:
        unsubscribe = unsubscribe_link(ctx, "address", to)
    shown = template
    if hipaa.is_on(ctx.settings) and values.keys() - WORDLESS:
        shown, values = NEUTRAL, {"link": values.get("link") or ctx.settings.base_url}
    subject, text, html = compose(shown, unsubscribe=unsubscribe, **values)
    category, asked = template.replace("/mail/", "."), kind.reach is Reach.ASKED
    return Ready(Mail(to, subject, text, html, reference, category, unsubscribe, asked), template, person, mailer)


async def hand_over(resources: Resources, ready: Ready) -> None:
    """The second half: what talks to others, and says in transactions of its own what became of it."""
    kind, mailer, template = LETTERS[ready.template], ready.mailer, ready.template
    to, reference = ready.mail.to, ready.mail.reference
    async with resources.get(AcknowledgingPool).connection() as raw:
        try:
            if not await mailing.claim(raw, reference, template, to, tells_later=mailer.tells_later):
                return
        except InDoubt:
            raise MailFailed("the answer to an earlier try was lost; waiting for news of it") from None
        if await mailing.causes(raw, to) & HOLDS_BACK[kind.reach] or not await _may_write(raw, kind, ready.person):
            await mailing.settle(raw, reference, MailState.SUPPRESSED)
            telemetry.mails.labels(MailState.SUPPRESSED.value).inc()
            return
    state = MailState.SENT
    try:
        await mailer.send(ready.mail)
    except MailRefused as refusal:
        # Mostly a mistyped address; tried again for a day it would only cost our good name with the receiver.
        log.error("mail refused", template=template, why=str(refusal))
        state = MailState.REFUSED
    except MailFailed as failure:
        telemetry.mails.labels("doubtful" if failure.doubtful else "failed").inc()
        if not failure.doubtful:
            await _settle(resources, reference, MailState.WAITING)
        raise
    telemetry.mails.labels(state.value).inc()
    await _settle(resources, reference, state)


async def _may_write(raw: Connection, kind: Letter, person: UUID | EllipsisType | None) -> bool:
    """What somebody asked for, or must know, is written to everybody: restriction does not reach it (Art. 18(2))."""
    if kind.reach is not Reach.NOTICE and kind.purpose is None:
        return True
    if not isinstance(person, UUID):
        return kind.purpose is None
    return await purposes.permits(raw, kind.purpose, person)


async def _settle(resources: Resources, reference: str, state: MailState) -> None:
    async with resources.get(AcknowledgingPool).connection() as raw:
        await mailing.settle(raw, reference, state)


def unsubscribe_link(ctx: Context, *what: str) -> str:
    """An address that works without a login, for as long as the mail is kept (RFC 8058). Addresses stand in logs and
    histories: whom it is about can be read by us alone."""
    return f"{ctx.settings.base_url.rstrip('/')}/unsubscribe/{conceal(STOPS, ' '.join(what).encode())}"


def unsubscribed(token: str) -> list[str]:
    """What `unsubscribe_link` was made of; raises BadSignature."""
    try:
        said = reveal(STOPS, token)
    except BadSignature:
        said = unsign(STOPPED, token)
    return said.decode().split(" ", 1)


def compose(template: str, **values: object) -> tuple[str, str, str]:
    """(subject, text, HTML) of one mail; a missing value is an error."""
    unsubscribe = str(values.pop("unsubscribe", ""))
    head, _, body = masked(_plain().get_template(f"{template}.txt").render(values)).strip().partition("\n")
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
