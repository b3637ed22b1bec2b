"""API keys: the only way into /api/v1. A program shows `Authorization: Bearer blst_...` and acts for its organization.

Protects from: cookies on an API (a browser would send them from anywhere), a leaked table that opens doors, a key that
nobody can trace, limit or end (ASVS 6.6, 9.1; OWASP API2). How to use: `ctx: KeyCtx` in api.py, as every route there
must; what the key may do follows from its scopes (guardrails.permissions).

A key is `blst_`, 32 random bytes, the organization's id and a checksum. The checksum tells a typing mistake, or a find
of a secret scanner, without asking anybody (the idea is GitHub's: github.blog, "Behind GitHub's new authentication
token formats"). The id says under whose row-level security to look; it proves nothing: only a keyed hash of the whole
key is stored, and it must be found THERE. So one statement finds the key, its organization and its plan, and no policy
of PostgreSQL is wider for it.

Limits: whoever holds a key is the program. Redis away: keys go on working, counted by this process alone.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID
from zlib import crc32

from starlette.requests import Request

from service.core.context import Actor, ActorKind, Context, Resources
from service.core.crypto import keyed_hash
from service.core.database import LOST, UnitOfWork
from service.core.errors import NotAuthenticated
from service.core.logging import get_logger
from service.guardrails import gate
from service.guardrails.permissions import Role
from service.guardrails.rate_limits import INVALID_KEY, spend

log = get_logger()
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""No - and no _: a double click selects the whole key."""
PREFIX = "blst_"
RANDOM_BYTES, ID_BYTES = 32, 16
WIDTH, CHECK_WIDTH = 65, 6
FORMAT = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{WIDTH + CHECK_WIDTH}}}")
SHOWN = len(PREFIX) + 8
"""Enough to tell two keys apart; 48 of the 256 random bits."""


class KeyRefused(NotAuthenticated):
    code, title = "api-key", "A valid API key is needed"
    default_mend = "An admin makes one on the page API keys (/api-keys); send it as 'Authorization: Bearer blst_...'."
    meaning = "The request carries no API key, or one that we do not know, or one that has ended. Cookies do not count."


class Shown(NamedTuple):
    """What a request shows: whose it claims to be, and the hash that must be found there."""

    organization_id: UUID
    digest: bytes


@dataclass(frozen=True, slots=True)
class Key:
    """A key as PostgreSQL knows it now. `problem` says why it opens nothing any more."""

    id: UUID
    role: Role
    scopes: frozenset[str]
    problem: str
    unused: bool
    """Not noted as used for a minute."""
    entitlement: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KeyStore:
    """How keys are found and noted as used; provided by the composition root: guard rails know no product table."""

    find: Callable[[UnitOfWork, bytes], Awaitable[Key | None]]
    note_use: Callable[[UnitOfWork, UUID], Awaitable[None]]


def mint(organization_id: UUID, chance: bytes = b"") -> str:
    """A new key; it exists nowhere else, so whoever asked must be shown it now. `chance` is for the demo's key."""
    body = _base62(int.from_bytes((chance or secrets.token_bytes(RANDOM_BYTES)) + organization_id.bytes, "big"), WIDTH)
    return f"{PREFIX}{body}{_checksum(body)}"


def parse(text: str) -> Shown | None:
    """None for what cannot be one of our keys: another format, or a checksum that does not fit."""
    body = text[len(PREFIX) : -CHECK_WIDTH]
    if not FORMAT.fullmatch(text) or not secrets.compare_digest(text[-CHECK_WIDTH:], _checksum(body)):
        return None
    number = 0
    for character in body:
        number = number * 62 + ALPHABET.index(character)
    if number >> 8 * (RANDOM_BYTES + ID_BYTES):
        return None
    return Shown(UUID(int=number & (1 << 8 * ID_BYTES) - 1), hash_of(text))


def hash_of(key: str) -> bytes:
    return keyed_hash("api-key", key)


def sent_with(request: Request) -> Shown | None:
    """The key of the request, if it can be one. Two Authorization headers: neither."""
    sent = request.headers.getlist("authorization")
    scheme, _, key = sent[0].partition(" ") if len(sent) == 1 else ("", "", "")
    return parse(key.strip()) if scheme.lower() == "bearer" else None


async def refusal(request: Request, resources: Resources, shown: Shown | None, problem: str) -> KeyRefused:
    """What to raise; raises TooManyRequests itself from an address that goes on trying."""
    if "authorization" not in request.headers:
        cookie = " The cookie of a login is ignored here." if "cookie" in request.headers else ""
        return KeyRefused(f"The API answers requests with an API key only.{cookie}")
    if shown is not None:
        await gate.forget(request.scope, resources, shown.digest.hex())
    await spend(resources, INVALID_KEY, address=request.scope["state"]["address"])
    return KeyRefused(problem)


async def believe(request: Request, ctx: Context, shown: Shown) -> Key:
    """The key behind what was shown; raises what `refusal` says when there is none, or none any more."""
    key = await ctx.resources.get(KeyStore).find(ctx.work, shown.digest)
    if key is None:
        raise await refusal(request, ctx.resources, shown, "There is no such API key.")
    if key.problem:
        refused = await refusal(request, ctx.resources, shown, key.problem)
        # The organization's log shows that somebody goes on with a key that was ended.
        ctx.actor, ctx.organization_id = Actor(ActorKind.API_KEY, key.id), shown.organization_id
        ctx.deny("api_keys.enter")
        raise refused
    return key


def _checksum(body: str) -> str:
    return _base62(crc32(body.encode()), CHECK_WIDTH)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


async def note_use(resources: Resources, work: UnitOfWork, key_id: UUID, organization_id: UUID) -> None:
    """At most once a minute, in a transaction of its own: requests of one key never wait for each other here."""
    try:
        await work.begin(tenant=organization_id, user=None, read_only=False)
        await resources.get(KeyStore).note_use(work, key_id)
        await work.commit()
    except LOST as error:
        log.warning("use of an API key not noted", error=type(error).__name__)
    finally:
        await work.close()
