"""What is known about a browser before anybody is logged in: half finished logins, and devices seen before.

Protects from: session fixation (nothing here ever becomes a session), replay of an OIDC answer or a "password was
right", and lock-out as a weapon: a browser that has logged in to an account before is counted apart from strangers,
so guessing at an account does not keep its owner out (OWASP, "Slow Down Online Guessing Attacks with Device Cookies").

How to use: `hold` / `held` around a step that leaves the page; `known_device` for `rate_limits.spend(device=...)`,
`remember_device` after a login. Limits: what is held is lost with Redis (the person starts again); one browser is known
to the last account it logged in to.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from service.core import crypto
from service.core.context import Resources
from service.core.errors import Unavailable
from service.core.redis import LOST
from service.core.scripts import Script, now_ms
from service.core.settings import Settings
from service.guardrails.rate_limits import folded
from service.guardrails.sessions import TOKEN_LENGTH, cookie_name, put_cookie

HOLD_MS = 10 * 60 * 1000
DEVICE_LIFE = timedelta(days=180)
NONCE_BYTES = 12

HOLD = Script(
    "before_login.hold",
    """
  redis.call('HSET', ARGV[1], 'facts', ARGV[2], 'ends', ARGV[3] + ARGV[4])
  return redis.call('PEXPIRE', ARGV[1], ARGV[4])
""",
)
HELD = Script(
    "before_login.held",
    """
  local facts, ends = unpack(redis.call('HMGET', ARGV[1], 'facts', 'ends'))
  if ARGV[3] ~= 'keep' then redis.call('DEL', ARGV[1]) end
  return facts and tonumber(ARGV[2]) < tonumber(ends) and facts
""",
)


async def hold(resources: Resources, response: Response, purpose: str, facts: dict[str, Any]) -> None:
    """Remember facts for ten minutes, behind a cookie of this purpose with a fresh id: OIDC state, "password right"."""
    token, settings = crypto.new_token(), resources.settings
    await _ask(resources, HOLD, _name(resources, purpose, token), orjson.dumps(facts), now_ms(), HOLD_MS)
    put_cookie(response, settings, purpose, token, timedelta(milliseconds=HOLD_MS))


async def held(request: Request, resources: Resources, purpose: str, *, keep: bool = False) -> dict[str, Any] | None:
    """What this browser's `hold` remembered, once; `keep` leaves it for another try. None: unknown, used or too old."""
    token = request.cookies.get(cookie_name(resources.settings, purpose), "")
    if len(token) != TOKEN_LENGTH:
        return None
    facts = await _ask(resources, HELD, _name(resources, purpose, token), now_ms(), "keep" if keep else "")
    return dict(orjson.loads(facts)) if facts else None


def remember_device(response: Response, settings: Settings, subject: str) -> None:
    """Mark the browser as one that has logged in to this account (its e-mail)."""
    value = crypto.sign(
        "known-device", secrets.token_bytes(NONCE_BYTES) + crypto.keyed_hash("known-device", folded(subject))
    )
    put_cookie(response, settings, "device", value, DEVICE_LIFE)


def known_device(request: Request, settings: Settings, subject: str) -> str | None:
    """The browser's name when it has logged in to this account before; what the cookie claims of others is ignored."""
    try:
        value = crypto.unsign("known-device", request.cookies.get(cookie_name(settings, "device"), ""))
    except crypto.BadSignature:
        return None
    nonce, account = value[:NONCE_BYTES], value[NONCE_BYTES:]
    return nonce.hex() if secrets.compare_digest(account, crypto.keyed_hash("known-device", folded(subject))) else None


def _name(resources: Resources, purpose: str, token: str) -> str:
    return f"{resources.settings.redis_namespace}:p:{purpose}:{crypto.keyed_hash(f'held {purpose}', token).hex()}"


async def _ask(resources: Resources, script: Script, *arguments: str | bytes | int) -> Any:
    try:
        return await script.run(resources, *arguments)
    except LOST as error:
        raise Unavailable("Logging in is not possible right now.", retry_after=5) from error
