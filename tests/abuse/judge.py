"""What every answer has to be, whoever asked for whatever: the one judgement that all attacks share."""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser

import httpx

from tests.abuse.payloads import MARK, PRODUCT, RAW_MARKUP
from tests.support.headers import broken_promises

INSIDES = (
    "Traceback (most recent",
    "sqlalchemy.exc",
    "asyncpg.exceptions",
    "psycopg",
    "syntax error at",
    "/site-packages/",
    "root:x:0",
)
"""Words of ours that are nobody's business."""
DETOURS = ("/login", "/confirm", "/organizations/new")
"""To the log-in, or to proving who one is: nothing was done."""


@dataclass(frozen=True)
class Sent:
    """What an attack was, and what may come of it."""

    where: str
    what: str
    refuse: bool = True
    """Whether anything but a refusal is a finding."""
    strict: bool = False
    """Whether being sent on to another page is no refusal either; else the rows say whether anything was done."""
    only: tuple[int, ...] = ()
    """The right answers, where they are known: any other refusal came from elsewhere, and this one was not tried."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class _Notices(HTMLParser):
    """Whether a page says, where screen readers say it too, what is wrong and what to do."""

    def __init__(self) -> None:
        super().__init__()
        self.found = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.found |= told.get("role") == "alert" or told.get("class") in ("error-code", "notice warning")


def says_what_to_do(answer: httpx.Response) -> bool:
    kind = answer.headers.get("content-type", "")
    if kind.startswith("application/problem+json"):
        problem = answer.json()
        return all(problem.get(name) for name in ("type", "title", "detail", "mend", "code"))
    if kind.startswith("text/plain"):
        return bool(answer.text.strip())
    parser = _Notices()
    parser.feed(answer.text)
    return kind == "text/html; charset=utf-8" and parser.found


def complaints(answer: httpx.Response, sent: Sent, canaries: tuple[str, ...] = ()) -> list[str]:
    """What is wrong with an answer; nothing, if nothing is."""
    found = []
    status, text = answer.status_code, answer.text
    if status >= 500:
        found.append(f"answered {status}")
    if missing := broken_promises(answer):
        found.append(f"lacks {missing}")
    if "server" in answer.headers or "x-injected" in answer.headers:
        found.append("has a header that nobody here wrote")
    if any(MARK in value for value in answer.headers.get_list("set-cookie")):
        found.append("sets a cookie that was sent in")
    if 400 <= status < 500 and status not in (404, 405) and not says_what_to_do(answer):
        found.append(f"refuses ({status}) without saying how to mend it: {text[:200]!r}")
    if answer.headers.get("content-type", "").startswith("text/html"):
        if markup := [one for one in RAW_MARKUP if one in text]:
            found.append(f"repeats {markup} as markup")
    elif status >= 400 and MARK in text:
        found.append(f"repeats what was sent: {text[:200]!r}")
    if PRODUCT in text:
        found.append("worked out a template that was sent in")
    if told := [word for word in INSIDES if word in text]:
        found.append(f"tells of the inside: {told}")
    if shown := [one for one in canaries if one in text]:
        found.append(f"shows what belongs to somebody else: {shown}")
    place = answer.headers.get("location", "")
    if "attacker.example" in place or place.startswith("//"):
        found.append(f"leads to {place}")
    moved = status in (302, 303) and (not sent.strict or place.split("?")[0] in DETOURS)
    if sent.refuse and status < 400 and not moved:
        found.append(f"took it ({status} {place})")
    if sent.only and status not in sent.only:
        found.append(f"answered {status} {place} instead of {' or '.join(map(str, sent.only))}")
    return [f"{sent} {one}" for one in found]
