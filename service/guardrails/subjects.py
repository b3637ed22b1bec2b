"""How a row reaches the person it is about, and so: all rows of one person, for export and erasure alike.

Protects from: the table that an export or an erasure forgot (GDPR Art. 15, 17). How to use: nothing, where the table
has a key to `users` that deletes with it (ON DELETE CASCADE), or is part of such a table. Otherwise on the model:

    __subject__ = Subject("email", By.EMAIL, "at")       # found by the person's address
    __subject__ = Subject("actor_id", By.ID)            # their id, without a key
    __subject__ = Subject("body", By.MENTION)           # a copy of something from outside that may name them

`rows_of(person, metadata)` then says what to read or erase. Columns that merely point at a person in somebody else's
row (who created it) are `references_to(person, metadata)`. Limits: what people typed about each other into an
organization's content is the organization's, and not found here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Column, ColumnElement, MetaData, Table, and_, event, or_, select, tuple_
from sqlalchemy.orm import Mapper

from service.core.crypto import keyed_hash
from service.core.database import Base
from service.guardrails.personal_data import LAW, Erasure, Protection, privacy_of, protection_of
from service.guardrails.rate_limits import folded
from service.guardrails.retention import retention_of

PEOPLE = "users"
BEFORE = r"(?<![\w.!#$%&'*+/=?^`{|}~-])"
BEHIND = r"(?![\w-]|\.[\w-])"
"""What would make an address another one: more of the local part before it, more of the domain behind it."""


class By(StrEnum):
    """What of the person stands in the column."""

    ID = "id"
    EMAIL = "email"
    ADDRESS_HASH = "address hash"
    MENTION = "mention"


@dataclass(frozen=True, slots=True)
class Subject:
    column: str
    by: By = By.ID
    since: str = ""
    """Where rows are found by an address: the column that says when a row was made. An address changes hands."""


@dataclass(frozen=True, slots=True)
class Person:
    """Whose rows are sought. `emails`: the present address first; former ones, where somebody knows them.

    `until`: of a former address, only what is older. For a copy: what came later may be its next holder's. An erasure
    and a hold give none, so that they miss nothing."""

    id: UUID
    emails: tuple[str, ...]
    until: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Holding:
    """Some table's rows of one person; `where` finds them, across organizations, as the maintenance role."""

    table: Table
    subject: Subject
    where: ColumnElement[bool]

    @property
    def only_candidates(self) -> bool:
        """Sealed copies cannot be searched: `where` finds everybody's. Each must be opened (guardrails.sealed) and
        `mentions(person, opened)` asked, as guardrails.erasure does."""
        return self.subject.by is By.MENTION

    @property
    def exported(self) -> list[Column[Any]]:
        found = [(column, privacy_of(column)) for column in self.table.columns]
        return [column for column, privacy in found if privacy is not None and privacy.export]

    @property
    def goes(self) -> bool:
        """Whether erasing the person deletes the row; otherwise its columns say one by one what happens to them."""
        held = [privacy_of(column) for column in self.table.columns if not _points_at_somebody(column)]
        return all(privacy is not None and privacy.erasure is Erasure.DELETE for privacy in held)


def address_hash(email: str) -> bytes:
    """What stands for an address where the address itself must not (guardrails.mailing)."""
    return keyed_hash("mail.address", folded(email))


def subject_of(table: Table) -> Subject | None:
    """Declared on the model, or read off the keys; None for rows that are about nobody."""
    declared: Subject | None = table.info.get("subject")
    if declared is not None or table.name == PEOPLE:
        return declared or Subject("id")
    for key in table.foreign_key_constraints:
        if key.referred_table.name == PEOPLE and key.ondelete == "CASCADE":
            return Subject(key.column_keys[0])
    return None


def personal_tables(metadata: MetaData) -> list[Table]:
    """Every table whose rows are about a person, parts of such tables included; parents first."""
    return [table for table in metadata.sorted_tables if subject_of(table) or _whole_of(table) is not None]


def rows_of(person: Person, metadata: MetaData) -> list[Holding]:
    """Where the rows of this person are, and how to find them; parents first, so erase in reverse."""
    return [
        Holding(table, subject_of(table) or Subject("", By.ID), condition_for(person, table))
        for table in personal_tables(metadata)
    ]


def references_to(person: Person, metadata: MetaData) -> list[tuple[Column[Any], ColumnElement[bool]]]:
    """Columns of rows that are not about the person but point at them: whoever created, deleted, invited."""
    own = {(table.name, subject.column) for table in metadata.sorted_tables if (subject := subject_of(table))}
    return [
        (column, column == person.id)
        for table in metadata.sorted_tables
        for column in table.columns
        if _points_at_somebody(column) and table.name != PEOPLE and (table.name, column.name) not in own
    ]


def condition_for(person: Person, table: Table) -> ColumnElement[bool]:
    """Which rows of the table are about this person."""
    return condition_for_any([person], table)


def condition_for_any(people: Sequence[Person], table: Table) -> ColumnElement[bool]:
    """Which rows of the table are about one of these."""
    subject = subject_of(table)
    if subject is None:
        return _through_the_whole(people, table)
    column = table.c[subject.column]
    match subject.by:
        case By.ID:
            return column.in_([person.id for person in people])
        case By.EMAIL:
            return _under_an_address(people, table, subject, str)
        case By.ADDRESS_HASH:
            return _under_an_address(people, table, subject, address_hash)
        case By.MENTION:
            return column.is_not(None)


def _under_an_address(
    people: Sequence[Person], table: Table, subject: Subject, written: Callable[[str], str | bytes]
) -> ColumnElement[bool]:
    column = table.c[subject.column]
    always = [written(email) for person in people for email in person.emails if email not in person.until]
    older = [
        and_(column == written(email), table.c[subject.since] <= until)
        for person in people
        for email, until in person.until.items()
    ]
    return or_(column.in_(always), *older)


def mentions(person: Person, opened: bytes) -> bool:
    """Whether a copy of something from outside names this person: one of their addresses as a whole, in any case and
    however JSON writes it. Another address that merely contains theirs is somebody else's."""
    text = folded(_words(opened))
    return any(re.search(f"{BEFORE}{re.escape(folded(email))}{BEHIND}", text) for email in person.emails)


def _words(opened: bytes) -> str:
    """All text of a message, without the escapes of its format; as it is where that is no JSON."""
    try:
        return "\n".join(_strings(orjson.loads(opened)))
    except orjson.JSONDecodeError:
        return opened.decode(errors="replace")


def _strings(told: object) -> Iterator[str]:
    if isinstance(told, str):
        yield told
    elif isinstance(told, dict):
        for name, value in told.items():
            yield name
            yield from _strings(value)
    elif isinstance(told, list):
        for value in told:
            yield from _strings(value)


def _through_the_whole(people: Sequence[Person], table: Table) -> ColumnElement[bool]:
    found = _whole_of(table)
    if found is None:
        raise LookupError(f"{table.name} reaches no person: set __subject__ on its model (guardrails/subjects.py)")
    whole, key = found
    about = condition_for_any(people, whole)
    parents = select(*(element.column for element in key.elements)).where(about).correlate(None)
    return tuple_(*key.columns).in_(parents)


def _whole_of(table: Table) -> tuple[Table, Any] | None:
    """The personal table that this one is part of (with_parent), and the key between them."""
    rule = retention_of(table)
    for key in table.foreign_key_constraints:
        if (
            rule
            and key.referred_table.name == rule.parent
            and rule.parent != PEOPLE
            and _is_personal(key.referred_table)
        ):
            return key.referred_table, key
    return None


def _is_personal(table: Table) -> bool:
    return subject_of(table) is not None or _whole_of(table) is not None


def _points_at_somebody(column: Column[Any]) -> bool:
    privacy = privacy_of(column)
    return privacy is not None and privacy.category == "subject"


def problems(metadata: MetaData) -> list[str]:
    """What would make an export or an erasure miss somebody's data; a sentence each, empty when all is well."""
    return [*_lost(metadata), *_unreasoned(metadata)]


def _lost(metadata: MetaData) -> Iterator[str]:
    personal = {table.name for table in personal_tables(metadata)}
    for table in metadata.sorted_tables:
        subject = subject_of(table)
        if subject is not None and subject.column not in table.columns:
            yield f"{table.name} finds its person in {subject.column!r}, which it does not have"
        if subject is not None and subject.by in (By.EMAIL, By.ADDRESS_HASH) and subject.since not in table.columns:
            yield f"{table.name} finds its person by an address and does not say since when: Subject(..., since=)"
        held = [column.name for column in table.columns if protection_of(column) is Protection.PERSONAL]
        if held and table.name not in personal:
            yield f"{table.name} holds {', '.join(held)} and reaches no person: set __subject__ on its model"


def _unreasoned(metadata: MetaData) -> Iterator[str]:
    for table in metadata.sorted_tables:
        for column in table.columns:
            privacy = privacy_of(column)
            if privacy is None:
                continue
            if privacy.erasure is Erasure.KEEP and not LAW.search(privacy.because):
                yield f"{column} outlives its person and cites no law: say because='... (GDPR Art. ...)'"
            if privacy.erasure in (Erasure.NULL, Erasure.PSEUDONYMIZE) and column.primary_key:
                yield f"{column} is part of the key and cannot be emptied: its row goes, or stays"
            if privacy.erasure is Erasure.NULL and not column.nullable:
                yield f"{column} must not be empty: let the row go, or pseudonymize it"
            if privacy.protection is Protection.SECRET and privacy.export:
                yield f"{column} is secret and would be exported"


@event.listens_for(Base, "after_mapper_constructed", propagate=True)
def _note(mapper: Mapper[Any], model: type) -> None:
    """Keep the path with the table, where a walker finds it without asking for models."""
    declared = getattr(model, "__subject__", None)
    if isinstance(mapper.local_table, Table) and isinstance(declared, Subject):
        mapper.local_table.info["subject"] = declared
