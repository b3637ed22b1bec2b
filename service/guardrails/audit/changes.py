"""What an action changed: before and after of every column, collected while the session flushes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy import event, inspect
from sqlalchemy.orm import DeclarativeBase, PassiveFlag

from service.core import logging
from service.core.context import Context
from service.core.database import GuardedSession
from service.core.masking import masked
from service.guardrails.personal_data import Protection, protection_of

CHANGED, HIDDEN = "[changed]", "[hidden]"
LONGEST_TEXT, MOST_OBJECTS, MOST_FIELDS, MOST_ITEMS, DEEPEST = 300, 20, 60, 20, 3
BIGGEST_INTEGER = 2**53 - 1

Fields = dict[str, list[Any]]
Seen = dict[Any, Fields]


@dataclass(frozen=True, slots=True)
class Changes:
    """The record an action was about, and {field: [before, after]} of all it touched."""

    object_type: str = ""
    object_id: UUID | None = None
    fields: Fields = field(default_factory=dict)


async def set_aside(ctx: Context) -> Seen:
    """Keep what an outer action has changed so far apart from what the one that now begins will change."""
    await ctx.db.flush()
    earlier: Seen = ctx.db.info.pop("changes", {})
    return earlier


def put_back(ctx: Context, earlier: Seen) -> None:
    ctx.db.info["changes"] = earlier


async def flush_and_collect(ctx: Context, about: DeclarativeBase | None) -> Changes:
    """Send pending changes and return all since the action began; `about` is the record it answers with."""
    await ctx.db.flush()
    seen: Seen = ctx.db.info.pop("changes", {})
    main: Any = about if about is not None else next(iter(seen), None)
    if main is None:
        return Changes()
    fields: Fields = dict(seen.pop(main, {}))
    for thing, others in seen.items():
        fields |= {f"{_table(thing)} {_id(thing) or ''} {name}": values for name, values in others.items()}
    kept = dict(list(fields.items())[:MOST_FIELDS])
    if left_out := len(fields) - len(kept) + ctx.db.info.pop("changes_left_out", 0):
        kept["..."] = [None, f"{left_out} more"]
    return Changes(_table(main), _id(main), kept)


def _remember(session: Any, _: Any) -> None:
    """After each flush: defaults are filled in by then, and SQLAlchemy still knows the values from before."""
    seen: Seen = session.info.setdefault("changes", {})
    for thing in (*session.new, *session.dirty, *session.deleted):
        fields = _fields(thing, session)
        if fields and thing not in seen and len(seen) >= MOST_OBJECTS:
            session.info["changes_left_out"] = session.info.get("changes_left_out", 0) + len(fields)
        elif fields:
            known = seen.setdefault(thing, {})
            for name, (before, after) in fields.items():
                known[name] = [known[name][0] if name in known else before, after]


def _fields(thing: Any, session: Any) -> Fields:
    state, found = inspect(thing), {}
    born, gone = thing in session.new, thing in session.deleted
    for attribute in state.mapper.column_attrs:
        name = attribute.key
        if attribute.columns[0].computed is not None:
            continue  # the database made it from another column, which is here
        history = state.get_history(name, PassiveFlag.PASSIVE_NO_INITIALIZE)
        before, after = (values[0] if values else None for values in (history.deleted, history.added))
        if born or gone:  # what a default has filled in is in no history
            value = state.dict.get(name)
            before, after = (None, value) if born else (value, None)
        if name not in ("id", "organization_id") and (before is not None or after is not None):
            protection = protection_of(attribute.columns[0])
            found[name] = [_protected(value, protection) for value in (before, after)]
    return found


def _protected(value: Any, protection: Protection) -> Any:
    return CHANGED if value is not None and protection in (Protection.SECRET, Protection.PERSONAL) else plain(value)


def plain(value: Any, *, checked: bool = False, depth: int = 0) -> Any:
    """A bounded JSON value that reads back from jsonb exactly as it was written, or the row would not verify.

    `checked` is for what was written by hand (facts): no value under a classified name, nothing like a mail address.
    """
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and masked(str(value)) != str(value):
        return masked(str(value))
    if isinstance(value, int) and abs(value) <= BIGGEST_INTEGER:
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, dict | list | tuple | set | frozenset):
        if depth == DEEPEST:
            return "..."
        if not isinstance(value, dict):
            return [plain(inner, checked=checked, depth=depth + 1) for inner in list(value)[:MOST_ITEMS]]
        return {
            plain(str(name)): HIDDEN
            if checked and str(name).lower() in logging.hidden_names
            else plain(inner, checked=checked, depth=depth + 1)
            for name, inner in list(value.items())[:MOST_ITEMS]
        }
    if isinstance(value, bytes) or (checked and isinstance(value, str) and "@" in value):
        return HIDDEN
    # PostgreSQL stores neither NUL nor lone surrogates.
    text = masked(str(value).replace("\0", "").encode("utf-8", "replace").decode())
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + "..."


def _table(thing: Any) -> str:
    return str(inspect(thing).mapper.local_table.name)


def _id(thing: Any) -> UUID | None:
    found = getattr(thing, "id", None)
    return found if isinstance(found, UUID) else None


event.listen(GuardedSession, "after_flush", _remember)
