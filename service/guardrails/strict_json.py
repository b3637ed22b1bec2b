"""JSON on which parsers disagree or die never reaches a handler, and each document is read once.

Protects from: duplicate names, lone surrogates, NaN, absurd numbers and nesting (a plain FastAPI answers 500 to several
of these), and from documents whose reading holds up everybody else: long ones are read in a thread, and only for an
API key that was believed (guardrails.contexts.admit_body). How to use: nothing, guardrails.browser checks every body; a
route that takes long documents says so with `@large_json(most)`. Limits: JSON only; anybody may send `most` bytes.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from re import Pattern
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Scope

from service.core.errors import BadRequest, PayloadTooLarge, UnsupportedMedia
from service.guardrails import cards

API_PREFIX = "/api/"
MOST_JSON = 256 * 1024
SHORT_JSON = 16 * 1024
MOST_VALUES = 120_000
"""Ten thousand readings have 40,000. Two megabytes of `[],[],` are 700,000 lists, and all others wait."""
CHECKED, UNREAD = "checked_json", "unread_json"

F = TypeVar("F", bound=Callable[..., Any])
Larger = Sequence[tuple[Pattern[str], int]]
"""Paths whose routes take `large_json`, and how much."""


def large_json(most: int) -> Callable[[F], F]:
    """For the few routes that take long documents: bytes of the body, instead of the limits for everybody."""

    def decorate(endpoint: F) -> F:
        endpoint.most_json = most  # type: ignore[attr-defined]
        return endpoint

    return decorate


class CheckedRequest(Request):
    """Hands out the JSON that was read when it was checked: parsing a batch again would stop every other request."""

    async def json(self) -> Any:
        state = self.scope["state"]
        return state[CHECKED] if CHECKED in state else await super().json()


def check_media(scope: Scope, body: bytes, most: int) -> None:
    """Read what is short; keep what is long until somebody was believed: reading it is what an attacker is after."""
    media = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    kind = media.split(b";", 1)[0].strip().lower()
    if kind == b"application/json":
        if len(body) > most:
            raise PayloadTooLarge(f"The JSON is larger than {most} bytes.", mend="Send it in several requests.")
        if len(body) <= SHORT_JSON:
            scope["state"][CHECKED] = check_json(body)
        elif scope["path"].startswith(API_PREFIX):
            scope["state"][UNREAD] = body
        else:
            raise too_large(SHORT_JSON)
    elif scope["path"].startswith(API_PREFIX):
        raise UnsupportedMedia("The API reads JSON only.")


async def check_long_json(scope: Scope) -> None:
    """In a thread: it takes longer than everybody else should wait."""
    scope["state"][CHECKED] = await asyncio.to_thread(check_json, scope["state"].pop(UNREAD))


def too_large(most: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than {most} bytes.")


def check_json(body: bytes) -> Any:
    """The value; refuses JSON on which parsers disagree or die (RFC 8259 sections 4, 6, 8.1; RFC 7493).

    Raises Invalid for card numbers (guardrails.cards), BadRequest for the rest: not UTF-8, lone surrogates, NaN and
    infinities, numbers beyond a double, duplicate names, absurd nesting. A plain FastAPI answers 500 to several.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise PayloadTooLarge(f"The JSON has more than {MOST_VALUES} values.", mend="Send it in several requests.")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest("The JSON is not UTF-8.", mend="Send it as UTF-8, without a byte order mark.") from error
    try:
        value = json.loads(
            text, object_pairs_hook=_unique_names, parse_constant=_no_constant, parse_float=_finite, parse_int=_bounded
        )
        if "\\u" in text:  # UTF-8 has no surrogates: only an escape can make one
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise BadRequest("The JSON is nested too deeply.", mend="Send a flatter document.") from error
    except UnicodeEncodeError as error:
        raise BadRequest("The JSON contains a lone surrogate.", mend="Send whole Unicode characters.") from error
    except ValueError as error:
        known = error.args[0] if isinstance(error, _Refused) else "The body is not valid JSON."
        raise BadRequest(known, mend="Correct the JSON and send it again.") from error
    # An escape may hide a digit, or a gap.
    if "\\" in text or cards.contains_card(text) or cards.may_be_spread(text):
        cards.refuse(value)
    return value


class _Refused(ValueError):
    """Valid for a lenient parser, refused by us; the message is ours and never quotes the input."""


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Refused("An object in the JSON has the same name twice.")
    return found


def _no_constant(_: str) -> Any:
    raise _Refused("The JSON contains NaN or an infinity, which JSON does not have.")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Refused("The JSON contains a number that is too large.")
    return value


def _bounded(text: str) -> int:
    if len(text) > 19 or not -(2**63) <= (value := int(text)) < 2**63:
        raise _Refused("The JSON contains an integer beyond 64 bits.")
    return value
