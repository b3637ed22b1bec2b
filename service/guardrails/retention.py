"""How long each table's rows are kept, and why: one line per table; `guardrails.purge` then really deletes them.

Protects from: data kept for ever because nobody decided (GDPR Art. 5(1)(e); ASVS 14.2.7). How to use, on the model:

    __retention__ = after_deletion(days=30, reason="a deleted indicator can be restored for 30 days")
    __retention__ = days_after("expires_at", days=1, reason="explains 'this link has been used' for a day")
    __retention__ = with_parent("indicators", reason="readings live and die with their indicator")
    __retention__ = days_after("at", days=400, hipaa_days=2200, reason="a payment processor asks for a year of log")
    __retention__ = forever("a seal proves what it sealed for as long as anybody asks")

A tenant's table is besides that always part of its organization: when the organization goes, its rows go. Limits:
backups keep what was purged until they expire themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ForeignKeyConstraint, Index, MetaData, Table, event
from sqlalchemy.orm import Mapper

from service.core.database import Base
from service.core.settings import Profile

ORGANIZATIONS = "organizations"
DELETED_AT = "deleted_at"


@dataclass(frozen=True, slots=True)
class Retention:
    """`days` after the moment in column `after`; without days, until the `parent` row goes; without that, for ever."""

    reason: str
    days: int | None = None
    after: str = ""
    parent: str = ""
    hipaa_days: int | None = None
    """Instead of `days` under that profile, which has periods of its own."""
    removed_by: str = ""
    """Who removes them, where that is not the purge: what they are is in more places than this table."""

    def days_under(self, profile: Profile) -> int:
        longer = self.hipaa_days if profile is Profile.HIPAA else None
        return longer or self.days or 0

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise ValueError("a retention rule needs a reason: what is the data good for, or which law asks for it?")
        if self.days is not None and self.days < 1:
            raise ValueError("a retention period is at least one day")


def after_deletion(*, days: int, reason: str, part_of: str = "", removed_by: str = "") -> Retention:
    """Soft-deleted rows go for good `days` later; with `part_of`, deleting that parent row deletes these with it."""
    return Retention(reason, days, DELETED_AT, part_of, removed_by=removed_by)


def days_after(column: str, *, days: int, reason: str, hipaa_days: int | None = None) -> Retention:
    return Retention(reason, days, column, hipaa_days=hipaa_days)


def with_parent(table: str, *, reason: str) -> Retention:
    return Retention(reason, parent=table)


def forever(reason: str) -> Retention:
    return Retention(reason)


def retention_of(table: Table) -> Retention | None:
    """What the model (or `info={"retention": ...}` of a plain table) declares."""
    found: Retention | None = table.info.get("retention")
    return found


def parts_of(table: Table) -> list[tuple[Table, ForeignKeyConstraint]]:
    """The tables whose rows go with a row of this one, and the keys that tie them; grandchildren before children."""
    return [
        (other, key)
        for other in reversed(table.metadata.sorted_tables)
        for key in other.foreign_key_constraints
        if key.referred_table is table and other is not table and _is_part(other, key)
    ]


def declared_parts(table: Table) -> list[tuple[Table, ForeignKeyConstraint]]:
    """Without those that are parts only because every tenant's row is part of its organization."""
    return [(part, key) for part, key in parts_of(table) if _parent_of(part) == table.name]


def _is_part(part: Table, key: ForeignKeyConstraint) -> bool:
    whole = key.referred_table.name
    return _parent_of(part) == whole or (whole == ORGANIZATIONS and key.column_keys == ["organization_id"])


def _parent_of(table: Table) -> str:
    rule = retention_of(table)
    return rule.parent if rule else ""


def problems(metadata: MetaData) -> list[str]:
    """What would keep data too long or make a purge fail; a sentence each, empty when all is well."""
    found = []
    for table in metadata.sorted_tables:
        rule = retention_of(table)
        if rule is None:
            found.append(f"{table.name} does not say how long its rows are kept: set __retention__ on its model")
            continue
        if rule.parent and not any(key.referred_table.name == rule.parent for key in table.foreign_key_constraints):
            found.append(f"{table.name} goes with {rule.parent!r}, but has no foreign key to it")
        if rule.days is None:
            continue
        if rule.after not in table.columns:
            found.append(f"{table.name} is kept for {rule.days} days after {rule.after!r}, which it does not have")
        elif not any(_finds(index, table.columns[rule.after]) for index in table.indexes):
            found.append(f"{table.name} needs an index that begins with {rule.after!r}: its purge would read every row")
        found += [
            f"{other.name}.{'+'.join(key.column_keys)} would block the purge of {table.name}: "
            "say with_parent(...), or ondelete='SET NULL' or 'CASCADE'"
            for other in metadata.sorted_tables
            for key in other.foreign_key_constraints
            if key.referred_table is table and not key.ondelete and not _is_part(other, key)
        ]
    return found


def _finds(index: Index, column: Column[Any]) -> bool:
    """Whether a purge can walk this index: it begins with the column, or holds the deleted rows alone."""
    columns = list(index.columns)
    where = index.dialect_options["postgresql"]["where"]
    if where is not None:
        return column in columns and str(where).endswith(f"{column.name} IS NOT NULL")
    return bool(columns) and columns[0] is column


@event.listens_for(Base, "after_mapper_constructed", propagate=True)
def _note(mapper: Mapper[Any], model: type) -> None:
    """Keep the rule with the table, where a purge finds it without asking for models."""
    declared = getattr(model, "__retention__", None)
    if isinstance(mapper.local_table, Table) and isinstance(declared, Retention):
        mapper.local_table.info["retention"] = declared
