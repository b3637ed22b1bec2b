"""The one place that reads the time, so that a test can move it for a whole process without touching the product."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_offset = timedelta()


def now() -> datetime:
    """The current moment, always with a time zone (UTC)."""
    return datetime.now(UTC) + _offset


def advance(by: timedelta) -> None:
    """Move this process's clock; `advance(timedelta())` never resets, `reset()` does."""
    global _offset
    _offset += by


def reset() -> None:
    global _offset
    _offset = timedelta()
