"""Identifiers: UUIDv7 (RFC 9562), so that primary keys stay in insertion order and indexes stay compact."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """A fresh UUIDv7; time-ordered, safe to show, not safe as a secret."""
    return uuid7()


def moment_of(identifier: UUID) -> datetime:
    """When it was made, to the millisecond (RFC 9562 section 5.7)."""
    return datetime.fromtimestamp((identifier.int >> 80) / 1000, UTC)


def uuid_in(text: str) -> UUID | None:
    """The id that somebody typed, if it is one."""
    try:
        return UUID(text.strip())
    except ValueError:
        return None
