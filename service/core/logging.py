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
from typing import Any

import orjson
import structlog

from service.core.settings import Settings
from service.core.telemetry import current_trace

hidden_names: set[str] = {
    "password", "secret", "token", "authorization", "cookie", "code", "csrf", "api_key", "key", "otp", "card",
}  # fmt: skip
"""Names whose values never reach the log; the classified columns are added when the models load."""

HIDDEN = "[hidden]"
ROW_DETAIL = re.compile(r"^(\w*DETAIL): .*$", re.MULTILINE)
"""PostgreSQL quotes the row here: `DETAIL: Key (email)=(ann@example.com) already exists.`"""
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
        text = _encodable(value)
        if name == "exception":
            text = ROW_DETAIL.sub(rf"\1: {HIDDEN}", text)
        return text if len(text) <= LONGEST or name == "exception" else text[:LONGEST] + "..."
    if isinstance(value, int) and value.bit_length() > 63:
        return str(value)  # more than the encoder takes: logging itself would fail
    if isinstance(value, dict | list | tuple) and depth >= DEEPEST:
        return TOO_DEEP  # unread, so nothing classified can hide down there
    if isinstance(value, dict):
        return {_encodable(str(key)): _clean(str(key), inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(name, inner, depth + 1) for inner in value[:50]]
    return value


def _encodable(text: str) -> str:
    # A lone surrogate is legal in Python and not in UTF-8: an attacker could otherwise make logging itself fail.
    return text.encode("utf-8", "replace").decode()


def get_logger() -> Any:
    return structlog.get_logger()
