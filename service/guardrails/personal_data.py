"""Every column says what it holds, so that logs, audit, export and erasure need no second list.

Protects from: personal data that nobody remembered (GDPR Art. 15, 17, 30), secrets in logs. How to use:
`mapped_column(..., info=personal("contact.email"))`, `content()`, `internal()` or `secret()`. Limits: it classifies
columns; what a customer types into a free text field is `content()` and treated as if it could be personal.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, MetaData

from service.core import logging


class Protection(StrEnum):
    INTERNAL = "internal"  # ids, states, times: may be logged and audited in clear
    CONTENT = "content"  # what a tenant wrote: belongs to the tenant, never logged, audited in clear for its owner
    PERSONAL = "personal"  # identifies a person: never logged, audited as changed
    SECRET = "secret"  # opens a door: never logged, audited, exported


class Erasure(StrEnum):
    DELETE = "delete"  # the row goes
    NULL = "null"  # the value goes
    PSEUDONYMIZE = "pseudonymize"  # replaced by a random token
    KEEP = "keep"  # kept for a reason that is stated


@dataclass(frozen=True, slots=True)
class Privacy:
    """What a column holds, why we have it and what erasing its subject does to it."""

    protection: Protection
    category: str
    purpose: str
    erasure: Erasure
    export: bool


def internal(category: str = "operations", *, erasure: Erasure = Erasure.DELETE) -> dict[str, Any]:
    return {"privacy": Privacy(Protection.INTERNAL, category, "service", erasure, export=True)}


def content(category: str = "content") -> dict[str, Any]:
    return {"privacy": Privacy(Protection.CONTENT, category, "service", Erasure.KEEP, export=True)}


def personal(category: str, *, purpose: str = "service", erasure: Erasure = Erasure.DELETE) -> dict[str, Any]:
    return {"privacy": Privacy(Protection.PERSONAL, category, purpose, erasure, export=True)}


def secret(category: str = "credentials") -> dict[str, Any]:
    return {"privacy": Privacy(Protection.SECRET, category, "security", Erasure.DELETE, export=False)}


def privacy_of(column: Column[Any]) -> Privacy | None:
    found: Privacy | None = column.info.get("privacy")
    return found


def protection_of(column: Column[Any]) -> Protection:
    """An unclassified column counts as secret until somebody says otherwise (a test names it)."""
    privacy = privacy_of(column)
    return privacy.protection if privacy else Protection.SECRET


def hide_in_logs(metadata: MetaData) -> None:
    """Teach the logger every column name whose value may not be logged."""
    for table in metadata.tables.values():
        for column in table.columns:
            if protection_of(column) is not Protection.INTERNAL:
                logging.hidden_names.add(column.name)
