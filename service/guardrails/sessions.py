"""Who is logged in: a random id in a cookie, and a record in Redis that every instance shares.

Protects from: session fixation, replay after logout, a stolen Redis dump, sessions that never end (ASVS 7.2 to 7.6).
The cookie holds 256 random bits, Redis only a keyed hash of them. Each change of rights (login, step-up, organization,
password, second factor) brings a new id; for ten seconds the old one grants nothing and answers "repeat".

How to use: `begin` after the last proof of identity, `rotate` when rights change, `end`, `end_device`, `end_all`.
Loading is the door's business (guardrails.gate); what comes before a login is in guardrails.before_login.

Redis away: Unavailable; nobody is let in, nobody is taken for anonymous. Limits: "end all" is final because of the
epoch in PostgreSQL that guardrails.contexts compares; the deletion here may be lost in a failover. Redis must not
evict (`noeviction`), or people are logged out for no reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson
from starlette.requests import Request
from starlette.responses import Response

from service.core import crypto, telemetry
from service.core.context import Caller, Login, Resources, Support
from service.core.errors import Conflict, NotAuthenticated, Unavailable
from service.core.redis import LOST
from service.core.scripts import Script, lua, now_ms
from service.core.settings import Settings
from service.guardrails import hipaa
from service.guardrails.addresses import region_of

SESSION_LUA = lua(__file__, "sessions.lua")
STORE = Script("sessions", SESSION_LUA, lua(__file__, "sessions_store.lua"))

MOST_PER_USER = 10
REMEMBERED_ABSOLUTE = timedelta(days=30)  # NIST SP 800-63B, AAL1: identify again at least every 30 days
STAFF_IDLE, STAFF_ABSOLUTE = timedelta(minutes=15), timedelta(hours=8)  # PCI DSS 8.2.8
WAY_BACK = timedelta(minutes=15)
"""For so long after its end a session of support still knows whose session it was, and opens nothing else."""
TOKEN_LENGTH = len(crypto.new_token())
GONE = b"gone"

BROWSERS = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
SYSTEMS = (
    ("iPhone", "iPhone"), ("iPad", "iPad"), ("Android", "Android"), ("Windows", "Windows"), ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"), ("Linux", "Linux"),
)  # fmt: skip


class SessionRotated(Conflict):
    """The request carried the id that a parallel request has just replaced; the browser already has the new one."""

    code, title = "session-rotated", "Your session was just renewed"
    default_mend = "Repeat the request."
    meaning = "Another request of the same browser renewed the login at the same moment; this one was not looked at."


@dataclass(frozen=True, slots=True)
class Device:
    """One line of "where you are logged in". `key` names it for `end_device` and opens nothing."""

    key: str
    label: str
    region: str
    created_at: datetime
    seen_at: datetime
    current: bool


async def begin(
    resources: Resources,
    *,
    user_id: UUID,
    organization_id: UUID | None,
    epoch: int,
    methods: tuple[str, ...],
    caller: Caller,
    remembered: bool = False,
    staff: bool = False,
    old: Login | str | None = None,
) -> tuple[str, Login]:
    """Log a person in under a fresh id: the cookie's value and the session.

    `old` is the session, or the cookie value the browser came with, that this one replaces. An eleventh session ends
    the user's oldest. Staff sessions are short and never remembered.
    """
    settings, now = resources.settings, now_ms()
    idle, absolute = timedelta(minutes=settings.session_idle_minutes), timedelta(hours=settings.session_absolute_hours)
    remembered = remembered and not staff and not hipaa.is_on(settings)
    if remembered:
        idle = timedelta(days=settings.session_remember_days)
        absolute = remembered_absolute(settings)
    idle = hipaa.idle_limit(settings, min(idle, STAFF_IDLE) if staff else idle)
    absolute = min(absolute, STAFF_ABSOLUTE) if staff else absolute
    token, began = crypto.new_token(), moment(now)
    login = Login(
        key_of(token), user_id, organization_id, began, began, methods, epoch, crypto.new_token(), remembered,
    )  # fmt: skip
    device = orjson.dumps([device_label(caller.user_agent), region_of(caller.address)])
    replaces = old.key if isinstance(old, Login) else key_of(old) if old else ""
    await _store(
        resources, "begin", login.key, user_id.hex, _hex(organization_id), _pack(login), device,
        _milliseconds(idle), now + _milliseconds(absolute), replaces, MOST_PER_USER,
        _milliseconds(remembered_absolute(settings)), "",
    )  # fmt: skip
    return token, login


async def begin_beside(
    resources: Resources, staff: Login, *, user_id: UUID, organization_id: UUID, epoch: int, visit_id: UUID,
    ends_at: datetime,
) -> tuple[str, Login]:  # fmt: skip
    """A session of `user_id` for whoever has the session `staff`, which is put aside under an id that nobody holds.

    It is one of the staff's own: it ends when theirs does, counts against their limits and stands among their devices.
    """
    _, aside = await rotate(resources, staff)
    token, now = crypto.new_token(), now_ms()
    login = Login(
        key_of(token), user_id, organization_id, moment(now), staff.authenticated_at, (), epoch, crypto.new_token(),
        support=Support(visit_id, staff.user_id, staff.epoch, aside.key, ends_at),
    )  # fmt: skip
    last = round((ends_at + WAY_BACK).timestamp() * 1000)
    await _store(
        resources, "begin", login.key, staff.user_id.hex, _hex(organization_id), _pack(login),
        orjson.dumps(["Support, in somebody's account", ""]), _milliseconds(STAFF_IDLE + WAY_BACK), last, "",
        MOST_PER_USER + 1, _milliseconds(remembered_absolute(resources.settings)), aside.key,
    )  # fmt: skip
    return token, login


async def return_from(resources: Resources, login: Login) -> tuple[str, Login] | None:
    """End a session of support; the session that was put aside, under a new id, or None when it has ended, too."""
    assert login.support is not None  # noqa: S101 - whoever calls this has looked
    own = await find(resources, login.support.beside)
    await end_device(resources, login.support.staff_id, login.key)
    return await rotate(resources, own) if own is not None else None


async def rotate(resources: Resources, login: Login, *, proven: str | None = None, **changes: Any) -> tuple[str, Login]:
    """Give the session a new id, with `changes` (organization_id, epoch); `proven` names what a step-up checked.

    Raises NotAuthenticated when it was ended meanwhile, SessionRotated when another request was faster.
    """
    token = crypto.new_token()
    if proven:
        changes["authenticated_at"] = moment(now_ms())
        changes["methods"] = tuple(dict.fromkeys((*login.methods, proven)))
    if changes.get("organization_id", login.organization_id) != login.organization_id:
        # A form that is still open in another tab was made for the other organization and must not act in this one.
        changes["csrf"] = crypto.new_token()
    fresh = replace(login, key=key_of(token), **changes)
    found = await _store(resources, "rotate", login.key, fresh.key, _pack(fresh), _hex(fresh.organization_id))
    refuse_rotated(found)
    if found is None:
        raise NotAuthenticated("This session has ended.")
    return token, fresh


async def load(resources: Resources, token: str) -> Login | None:
    """The session behind a cookie value, for code that does not come through the door."""
    return await find(resources, key_of(token))


async def find(resources: Resources, key: str) -> Login | None:
    found = await _store(resources, "load", key)
    refuse_rotated(found)
    return unpack(key, found) if found else None


async def end(resources: Resources, login: Login) -> None:
    await end_device(resources, login.user_id, login.key)


async def end_device(resources: Resources, user_id: UUID, key: str) -> bool:
    """End one session of this user; False when it is not theirs or has ended already."""
    return bool(await _store(resources, "end", user_id.hex, key))


async def end_all(resources: Resources, user_id: UUID, *, keep: Login | None = None) -> int:
    """End the user's sessions except `keep`; how many. Whoever calls this has raised the epoch in PostgreSQL."""
    return int(await _store(resources, "end_all", user_id.hex, keep.key if keep else ""))


async def devices(resources: Resources, whose: Login | UUID) -> list[Device]:
    """Where this person is logged in, most recently used first; at most ten. Staff ask by the person's id."""
    user_id, current = (whose, "") if isinstance(whose, UUID) else (whose.user_id, whose.key)
    found = []
    for key, record, seen, device in await _store(resources, "devices", user_id.hex):
        session, (label, region) = unpack(key.decode(), record), orjson.loads(device)
        found.append(Device(session.key, label, region, session.created_at, moment(int(seen)), session.key == current))
    return sorted(found, key=lambda one: one.seen_at, reverse=True)


async def refresh_gauge(resources: Resources) -> int:
    """Set the metric `sessions_active` from one sorted set; costs the same for ten sessions and ten million."""
    active = int(await _store(resources, "count"))
    telemetry.sessions_active.set(active)
    return active


def cookie_name(settings: Settings, purpose: str = "sid") -> str:
    """`__Host-` pins a cookie to this host, to / and to https; browsers refuse the name over plain http."""
    return f"__Host-{purpose}" if settings.cookies_are_secure else purpose


def cookie_of(request: Request, settings: Settings) -> str | None:
    """The session cookie, when it could be one of ours at all. Two of them (cookie tossing): neither."""
    name = cookie_name(settings).encode() + b"="
    sent = [part for header, line in request.scope["headers"] if header == b"cookie" for part in line.split(b";")]
    found = [part.strip().removeprefix(name) for part in sent if part.strip().startswith(name)]
    return found[0].decode("latin-1") if len(found) == 1 and len(found[0]) == TOKEN_LENGTH else None


def set_cookie(response: Response, settings: Settings, token: str, *, remembered: bool = False) -> None:
    """Gone when the browser closes, unless it is to be remembered."""
    put_cookie(response, settings, "sid", token, remembered_absolute(settings) if remembered else None)


def clear_cookie(response: Response, settings: Settings) -> None:
    """Log out in the browser as well: what it cached and stored for us goes, too (ASVS 14.3.1)."""
    put_cookie(response, settings, "sid", "", timedelta())
    response.headers["clear-site-data"] = '"cache", "storage"'


def put_cookie(response: Response, settings: Settings, purpose: str, value: str, lasts: timedelta | None) -> None:
    """Lax and not Strict, because coming back from an identity provider is a cross-site navigation."""
    seconds = int(lasts.total_seconds()) if lasts is not None else None
    name, secure = cookie_name(settings, purpose), settings.cookies_are_secure
    response.set_cookie(name, value, max_age=seconds, path="/", secure=secure, httponly=True, samesite="lax")


def remembered_absolute(settings: Settings) -> timedelta:
    return max(REMEMBERED_ABSOLUTE, timedelta(days=settings.session_remember_days))


def key_of(token: str) -> str:
    """What Redis knows a cookie by: a keyed hash, so that a dump of Redis opens nothing."""
    return crypto.keyed_hash("session", token).hex()


@lru_cache(maxsize=1024)
def unpack(key: str, record: bytes) -> Login:
    """What Redis has just answered, as a Login. Only the parsing is remembered, never that a session exists."""
    user, organization, created, authenticated, methods, epoch, csrf, remembered, *support = orjson.loads(record)
    return Login(
        key, UUID(user), UUID(organization) if organization else None, moment(created), moment(authenticated),
        tuple(methods), epoch, csrf, remembered, _support(*support) if support else None,
    )  # fmt: skip


def _support(visit: str, staff: str, epoch: int, beside: str, ends: int) -> Support:
    return Support(UUID(visit), UUID(staff), epoch, beside, moment(ends))


def refuse_rotated(found: Any) -> None:
    if found == GONE:
        raise SessionRotated("Another request has just renewed this session.", retry_after=1)


def device_label(user_agent: str) -> str:
    """Browser and system from fixed lists: what a client sends is never stored or shown as it came."""
    browser = next((name for mark, name in BROWSERS if mark in user_agent), "Unknown browser")
    system = next((name for mark, name in SYSTEMS if mark in user_agent), None)
    return f"{browser} on {system}" if system else browser


def moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _pack(login: Login) -> bytes:
    """Neither role nor name: those are read from PostgreSQL on each request, where they change."""
    support = login.support
    return orjson.dumps([
        login.user_id.hex, _hex(login.organization_id), round(login.created_at.timestamp() * 1000),
        round(login.authenticated_at.timestamp() * 1000), login.methods, login.epoch, login.csrf, login.remembered,
        *([support.visit_id.hex, support.staff_id.hex, support.staff_epoch, support.beside,
           round(support.ends_at.timestamp() * 1000)] if support else []),
    ])  # fmt: skip


def _hex(identifier: UUID | None) -> str:
    return identifier.hex if identifier else ""


def _milliseconds(span: timedelta) -> int:
    return int(span / timedelta(milliseconds=1))


async def _store(resources: Resources, operation: str, *arguments: str | bytes | int) -> Any:
    try:
        return await STORE.run(resources, operation, resources.settings.redis_namespace, now_ms(), *arguments)
    except LOST as error:
        raise Unavailable("Logins cannot be checked right now.", retry_after=5) from error
