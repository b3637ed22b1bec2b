"""One JSON line per event on standard output, with the request's identity in it and personal data kept out.

Redaction follows the column classification (guardrails.personal_data fills `hidden_names`): a field whose name is a
classified column never shows its value, whoever logs it. JSON encoding makes log injection impossible: a line break
in a value stays inside its string.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from datetime import date
from typing import Any
from uuid import UUID

import orjson
import structlog

from service.core.masking import masked, masked_number
from service.core.settings import Settings
from service.core.telemetry import current_trace

hidden_names: set[str] = {
    "password", "secret", "token", "authorization", "cookie", "code", "csrf", "api_key", "key", "otp", "card",
}  # fmt: skip
"""Names whose values never reach the log; the classified columns are added when the models load."""

HIDDEN = "[hidden]"
QUOTES = (
    # PostgreSQL quotes the row: `DETAIL: Key (email)=(ann@example.com) already exists.`
    (re.compile(r"^(\w*DETAIL): .*$", re.MULTILINE), "DETAIL", r"\1: {0}"),
    # ... and what it could not read: `invalid input syntax for type uuid: "ann@example.com"`
    (re.compile(r'(for (?:type|enum) [\w ]+: )".*"'), "for ", r"\1{0}"),
    # asyncpg: `invalid input for query argument $1: 'ann@example.com' (expected int)`
    (re.compile(r"(query argument \$\d+: ).*?( \([^()]*\)$)", re.MULTILINE | re.DOTALL), "query argument", r"\1{0}\2"),
    # pydantic: `[type=int_parsing, input_value='ann@example.com', input_type=str]`
    (re.compile(r"input_value=.*?, input_type=", re.DOTALL), "input_value=", "input_value={0}, input_type="),
)
"""How the texts of errors repeat what somebody sent: pattern, a part that must be there, what is left of it."""
TOO_DEEP = "[too deep]"
DEEPEST = 4
LONGEST = 2_000

Event = MutableMapping[str, Any]


def configure_logging(settings: Settings) -> None:
    """Route structlog and every library's standard logging through the same redacting pipeline."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_trace,
        structlog.processors.format_exc_info,
        redact,
    ]
    level = logging.getLevelNamesMapping().get(settings.log_level.upper(), logging.INFO)
    render: Any = structlog.dev.ConsoleRenderer() if settings.debug else structlog.processors.JSONRenderer(to_json)
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout) if settings.debug else structlog.BytesLoggerFactory(),
        # Faster, and final: outside production a debugger may still want to look in between.
        cache_logger_on_first_use=settings.is_production,
    )
    foreign = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            render if settings.debug else structlog.processors.JSONRenderer(lambda *a, **k: to_json(*a, **k).decode()),
        ],
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(foreign)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))
    for noisy in ("uvicorn", "uvicorn.error"):
        logging.getLogger(noisy).handlers.clear()
        logging.getLogger(noisy).propagate = True


def to_json(event: Any, **_: Any) -> bytes:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS)


def add_trace(_: Any, __: str, event: Event) -> Event:
    if (trace := current_trace()) is not None:
        event["trace_id"] = trace.hex
    return event


def redact(_: Any, __: str, event: Event) -> Event:
    """Hide classified names at any depth, make text encodable, cut what is too long."""
    for name in event:
        event[name] = _clean(name, event[name], 0)
    return event


def _clean(name: str, value: Any, depth: int) -> Any:
    if name.lower() in hidden_names and value not in (None, ""):
        return HIDDEN
    if isinstance(value, str):
        text = masked(without_quotes(_encodable(value)))
        return text if len(text) <= LONGEST or name == "exception" else text[:LONGEST] + "..."
    if value is None or isinstance(value, bool | UUID | date | logging.LogRecord):
        return value
    if isinstance(value, int | float):
        number = masked_number(value)
        # More than 63 bits are more than the encoder takes: logging itself would fail.
        return str(number) if isinstance(number, int) and number.bit_length() > 63 else number
    if isinstance(value, dict | list | tuple) and depth >= DEEPEST:
        return TOO_DEEP  # unread, so nothing classified can hide down there
    if isinstance(value, dict):
        return {masked(_encodable(str(key))): _clean(str(key), inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(name, inner, depth + 1) for inner in value[:50]]
    # An error, a set, bytes: the encoder would write their text, which nobody had looked at.
    return _clean(name, str(value), depth)


def without_quotes(text: str) -> str:
    """An error's text without the values that libraries quote in it."""
    for pattern, mark, instead in QUOTES:
        if mark in text:
            text = pattern.sub(instead.format(HIDDEN), text)
    return text


def _encodable(text: str) -> str:
    # A lone surrogate is legal in Python and not in UTF-8: an attacker could otherwise make logging itself fail.
    return text.encode("utf-8", "replace").decode()


def get_logger() -> Any:
    return structlog.get_logger()
