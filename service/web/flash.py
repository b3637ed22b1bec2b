"""One-shot messages ("Indicator archived."): shown by the answer itself, or carried over a redirect in a signed cookie.

The cookie is HttpOnly, lives a minute and is dropped by the page that shows it. It is signed because its text appears
under our name: an attacker who can plant a cookie must not be able to write on our pages. Kept out of the session so
that messages work before login and cost no Redis write.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import orjson
from starlette.requests import Request
from starlette.responses import Response

from service.core import clock
from service.core.crypto import BadSignature, sign, unsign
from service.core.settings import get_settings

Kind = Literal["success", "info", "warning", "danger"]
KINDS: Final = ("success", "info", "warning", "danger")
PURPOSE: Final = "web.flash"
LIFETIME_SECONDS: Final = 60
MOST_MESSAGES, LONGEST_TEXT = 5, 300


@dataclass(frozen=True, slots=True)
class Message:
    kind: Kind
    text: str


def flash(request: Request, text: str, kind: Kind = "success") -> None:
    """Say this to the reader once: on the page or fragment rendered next, or after the redirect."""
    _pending(request).append(Message(kind, text[:LONGEST_TEXT]))


def take_messages(request: Request) -> list[Message]:
    """What this answer has to show: what the cookie brought, then what this request said. Empties both."""
    pending = _pending(request)
    messages = [*_from_cookie(request), *pending][-MOST_MESSAGES:]
    pending.clear()
    request.scope["flash.shown"] = True
    return messages


def carry_messages(request: Request, response: Response) -> None:
    """Put unsaid messages into the cookie, or drop the cookie when this answer has shown it."""
    pending = _pending(request)
    secure = get_settings().cookies_are_secure
    name = cookie_name(secure=secure)
    if pending:
        shown = request.scope.get("flash.shown", False)
        waiting = [*([] if shown else _from_cookie(request)), *pending][-MOST_MESSAGES:]
        expires = int(clock.now().timestamp()) + LIFETIME_SECONDS
        value = sign(PURPOSE, orjson.dumps([expires, [[m.kind, m.text] for m in waiting]]))
        response.set_cookie(name, value, LIFETIME_SECONDS, path="/", secure=secure, httponly=True, samesite="lax")
    elif request.scope.get("flash.shown") and name in request.cookies:
        response.delete_cookie(name, path="/", secure=secure, httponly=True, samesite="lax")


def cookie_name(*, secure: bool) -> str:
    """Browsers accept the `__Host-` prefix only over https; it stops a subdomain from planting the cookie."""
    return "__Host-flash" if secure else "flash"


def _pending(request: Request) -> list[Message]:
    messages: list[Message] = request.scope.setdefault("flash.pending", [])
    return messages


def _from_cookie(request: Request) -> list[Message]:
    value = request.cookies.get(cookie_name(secure=get_settings().cookies_are_secure))
    if not value:
        return []
    try:
        expires, messages = orjson.loads(unsign(PURPOSE, value))
        fresh = expires > clock.now().timestamp()
        return [Message(kind, text) for kind, text in messages if kind in KINDS] if fresh else []
    except (BadSignature, ValueError, TypeError):
        # A cookie of an older release or a planted one: nobody needs to hear about it.
        return []
