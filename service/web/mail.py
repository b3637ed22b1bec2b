"""Mails from templates: plain text is what people write, the HTML part is made from it, so the two never differ.

`compose("accounts/mail/reset", link=...)` reads `features/accounts/templates/mail/reset.txt`. Its first line is
`Subject: ...`; a line that is nothing but an address becomes a link. Values appear in both parts as they are, so what a
person chose (a name) does not belong in a mail that a stranger can trigger.
"""

from __future__ import annotations

from functools import lru_cache

from jinja2 import Environment
from markupsafe import Markup, escape

from service.web.templating import environment


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
