"""Mails from templates: plain text is what people write, the HTML part is made from it, so the two never differ.

`deliver(ctx, address, "accounts/mail/reset", reference, link=...)`, in a job with `retry=PATIENT`, reads
`features/accounts/templates/mail/reset.txt`. Its first line is `Subject: ...`; a line that is nothing but an address
becomes a link. Values appear in both parts as they are: what a person chose (a name) does not belong in a mail that a
stranger can trigger.
"""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache

from jinja2 import Environment
from markupsafe import Markup, escape

from service.core.context import Context
from service.core.logging import get_logger
from service.guardrails import switches
from service.guardrails.jobs import Retry
from service.guardrails.switches import Switch
from service.integrations.mail import Mail, Mailer, MailFailed, MailRefused
from service.web.templating import environment

PATIENT = Retry(attempts=24, first=timedelta(seconds=5))
"""Most of a day: as long as a mail server's bad day, or an operator's stop of all mail, may last."""

log = get_logger()


async def deliver(ctx: Context, to: str, template: str, reference: str, **values: object) -> None:
    """Send one mail, once. Raises MailFailed when the job shall try again: the server is away, or mail is stopped."""
    if await switches.is_on(ctx, Switch.STOP_MAIL):
        raise MailFailed("an operator has stopped all mail")
    try:
        await ctx.resources.get(Mailer).send(Mail(to, *compose(template, **values), reference))
    except MailRefused as refusal:
        # Mostly a mistyped address; tried again for a day it would only cost our good name with the receiver.
        log.error("mail refused", template=template, why=str(refusal))


def compose(template: str, **values: object) -> tuple[str, str, str]:
    """(subject, text, HTML) of one mail; a missing value is an error."""
    head, _, body = _plain().get_template(f"{template}.txt").render(values).strip().partition("\n")
    if not head.startswith("Subject: "):
        raise ValueError(f"{template}.txt must begin with 'Subject: '")
    subject, text = head.removeprefix("Subject: ").strip(), body.strip() + "\n"
    return subject, text, _html(subject, text)


@lru_cache(maxsize=1)
def _plain() -> Environment:
    """The pages' environment without HTML escaping; the HTML part is escaped as a whole afterwards."""
    return environment().overlay(autoescape=False)


def _html(subject: str, text: str) -> str:
    parts = Markup("\n").join(_paragraph(part) for part in text.strip().split("\n\n"))
    page = Markup(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>{}</title></head>\n<body>\n{}\n</body></html>\n'
    )
    return page.format(subject, parts)


def _paragraph(text: str) -> Markup:
    lines = [
        Markup('<a href="{0}">{0}</a>').format(line) if line.startswith(("https://", "http://")) else escape(line)
        for line in text.strip().splitlines()
    ]
    return Markup("<p>{}</p>").format(Markup("<br>\n").join(lines))
