"""What the HIPAA security rule asks for beyond the rest of the service: the setting COMPLIANCE_PROFILE=hipaa.

Protects from: health data on an unattended screen, behind a single password, seen by nobody knows whom, or at a firm
that never signed for it (45 CFR 164.308(b), 164.312). How to use: nothing, each part sits where all come through:

- automatic logoff: sessions end after 15 idle minutes and none is remembered (sessions.begin); what a page asks for by
  itself is no use (gate.enter), and every page leaves the screen by itself, scripts or not;
- a second factor for everybody (contexts): without one a person reaches the pages to set it up, and nothing else; the
  code of emergency rights is one while they last;
- audited reads (actions.query): who saw what, which rows, as an audit row before the answer leaves, or no answer;
- no words about anybody in mails (web.mail): they only say where to look;
- at start (app, worker): processors that get people's data and signed no business associate agreement are refused, and
  so are the few ways without TLS that production allows otherwise (core.insecurities).

Limits: files fetched by their signed link are recorded when the link is made. API keys have no second factor; their
reads are recorded, too. It is the technical half of HIPAA: docs/compliance/hipaa.md says what is left to people.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from service.core.context import ActorKind, Context
from service.core.errors import Forbidden, NotAuthenticated
from service.core.settings import InsecureSettings, Profile, Settings
from service.guardrails import break_glass
from service.guardrails.data_map.processors import PROCESSORS, Processor, agreements, outbound_hosts

IDLE = timedelta(minutes=15)
UNATTENDED = b"x-unattended"
"""Header of what a page asks for while nobody is at it."""
READ = "read"
DEEP = 4
"""How far rows are looked for in what a query gives: a page, a part of it, a list in it, its rows."""
IDS_IN_A_NOTE, IDS_AT_ONCE = 200, 20
"""What one row of the log has room for: a long list is noted in several, so that none of its ids is left out."""
SET_UP = frozenset({"/account/security", "/account/totp", "/account/totp/confirmation", "/confirm", "/logout"})
HARMLESS = frozenset({"operations", "tenant", "subject"})
"""Categories of data that are about no patient: ids, times, states."""


class SecondFactorRequired(Forbidden):
    """Pages lead to where it is set up."""

    code, title = "second-factor-required", "A second factor is required here"
    default_mend = "Set up codes from an app under Account, Security; or log in again, with a code."
    meaning = "This service keeps health data, so a password alone opens nothing but the page for a second factor."


def is_on(settings: Settings) -> bool:
    return settings.compliance_profile is Profile.HIPAA


def idle_limit(settings: Settings, usual: timedelta) -> timedelta:
    """How long a session may rest."""
    return min(usual, IDLE) if is_on(settings) else usual


def is_unattended(settings: Settings, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a page asked by itself, which keeps nobody logged in."""
    return is_on(settings) and any(name == UNATTENDED for name, _ in headers)


def insist_on_second_factor(ctx: Context, path: str) -> bool:
    """Raise SecondFactorRequired for a session that began with a password alone; True on the pages that help."""
    if not is_on(ctx.settings) or ctx.login is None or ctx.login.support is not None:
        return False
    if ctx.login.remembered:
        raise NotAuthenticated("This session has ended.")  # it began before the profile, and would rest for weeks
    if break_glass.proves(ctx):
        return False
    if path not in SET_UP:
        raise SecondFactorRequired("This needs a second factor.")
    return True


def note_read(ctx: Context, name: str, result: Any, asked: Mapping[str, Any]) -> None:
    """Remember who saw which rows, and for what they `asked`; written in a transaction of its own, since that of a read
    changes nothing."""
    if not is_on(ctx.settings) or ctx.actor.kind not in (ActorKind.USER, ActorKind.STAFF, ActorKind.API_KEY):
        return
    if result is None or isinstance(result, bool | int | float | str | bytes):
        return  # a number or a word: nobody's record
    items = getattr(result, "items", result)
    rows = list(items) if isinstance(items, list) or (isinstance(items, tuple) and items is not result) else [result]
    seen = list(dict.fromkeys(str(one) for row in rows for one in ids_in(row)))
    whose = {key: " ".join(map(str, ids_in(value))) for key, value in asked.items() if any(ids_in(value))}
    for first in range(0, len(seen) or 1, IDS_IN_A_NOTE):
        ids = seen[first : first + IDS_IN_A_NOTE]
        chunks = {str(start): ids[start : start + IDS_AT_ONCE] for start in range(0, len(ids), IDS_AT_ONCE)}
        ctx.note(name, READ, rows=len(ids) or len(rows), ids=chunks, **({"asked": whose} if whose else {}))


def ids_in(value: Any, depth: int = DEEP) -> Iterator[UUID | int]:
    """The row's own id; where it has none, all that it names; and those of the rows inside it."""
    if isinstance(value, UUID):
        yield value
    parts = _fields(value)
    own = parts.get("id")
    if isinstance(own, UUID | int):
        yield own
    for inner in parts.values() if depth else ():
        if inner is not own and not (own is not None and isinstance(inner, UUID)):
            yield from ids_in(inner, depth - 1)


def _fields(value: Any) -> Mapping[Any, Any]:
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in type(value).model_fields}
    if is_dataclass(value):
        return {one.name: getattr(value, one.name) for one in fields(value)}
    return {"id": getattr(value, "id", None)}


def refuse_unfit(settings: Settings) -> None:
    """Raise InsecureSettings in production when somebody gets people's data without having signed for it."""
    if settings.is_production and (missing := unsigned(settings)):
        raise InsecureSettings(f"the hipaa profile refuses to start: {missing}")


def unsigned(settings: Settings) -> str:
    """Which agreements are missing, and what to do about it; empty when none is."""
    signed = agreements(settings.processor_baas)
    names = [one.name for one in _in_use(settings) if one.name not in signed] if is_on(settings) else []
    if not names:
        return ""
    return (
        f"no business associate agreement with {', '.join(names)}. Sign it and name the day in PROCESSOR_BAAS"
        f" ({names[0]}=2026-01-31), or turn off what goes there"
    )


def _in_use(settings: Settings) -> list[Processor]:
    """The processors that get more than ids with these settings."""
    carriers = {place.mail_through.value for place in settings.places.values()}
    off = {
        "sendgrid": "sendgrid" not in carriers,
        "smtp": "smtp" not in carriers,
        "stripe": not settings.billing_enabled,
        "storage": all(place.storage_url.startswith("file:") for place in settings.places.values()),
        "scanner": settings.scanner_url == "none",
    }
    hosts = outbound_hosts(settings)
    return [
        one for one in PROCESSORS.values()
        if one.needs_agreement and set(one.receives) - HARMLESS and hosts[one.name] and not off.get(one.name, False)
    ]  # fmt: skip
