"""An indicator is a named series of readings; hours are their running summary, so that charts never scan readings."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock
from service.core.database import Base
from service.core.errors import Conflict
from service.core.ids import new_id
from service.guardrails.personal_data import author, content, internal
from service.guardrails.retention import after_deletion, with_parent
from service.guardrails.soft_delete import SoftDeletable
from service.guardrails.tenancy import TenantScoped


class Step(StrEnum):
    """Width of a chart's buckets; weeks begin on Monday, all in UTC."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"


class Indicator(TenantScoped, SoftDeletable, Base):
    __tablename__ = "indicators"
    __retention__ = after_deletion(days=30, reason="a deleted indicator can be restored from the bin for 30 days")
    __table_args__ = (
        UniqueConstraint("organization_id", "id"),  # what readings refer to: the pair, so never another tenant's
        Index(
            "uq_indicators_live_name",
            "organization_id",
            func.lower(text("name")),
            unique=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
        Index("ix_indicators_organization_id_name_id", "organization_id", "name", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    name: Mapped[str] = mapped_column(String(120), info=content())
    description: Mapped[str] = mapped_column(Text, default="", server_default="", info=content())
    unit: Mapped[str] = mapped_column(String(16), default="", server_default="", info=content())
    created_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())
    created_by: Mapped[UUID | None] = mapped_column(
        ForeignKey("users.id", ondelete="SET NULL"), index=True, info=author()
    )
    changed_at: Mapped[datetime] = mapped_column(default=clock.now, onupdate=clock.now, info=internal())
    archived_at: Mapped[datetime | None] = mapped_column(info=internal())
    latest_value: Mapped[float | None] = mapped_column(Double, info=content())
    latest_at: Mapped[datetime | None] = mapped_column(info=internal())
    source_id: Mapped[UUID | None] = mapped_column(info=internal())
    """What feeds it by itself; no foreign key, because what feeds indicators is a feature that may be left out."""
    as_of: Mapped[datetime | None] = mapped_column(info=internal())
    """When the source last confirmed the value: on a weekend a rate stays true and gets no new reading."""
    stale_because: Mapped[str] = mapped_column(String(300), default="", server_default="", info=content())

    def fed_by(self, source_id: UUID | None, as_of: datetime | None, stale_because: str = "") -> None:
        """Tell where its values come from, as of when, and why they are not newer."""
        self.source_id, self.as_of, self.stale_because = source_id, as_of, stale_because

    def archive(self) -> None:
        if self.archived_at is not None:
            raise Conflict("This indicator is already archived.", mend="Reload to see its current state.")
        self.archived_at = clock.now()

    def unarchive(self) -> None:
        if self.archived_at is None:
            raise Conflict("This indicator is not archived.", mend="Reload to see its current state.")
        self.archived_at = None

    def refuse_readings_when_archived(self) -> None:
        if self.archived_at is not None:
            raise Conflict("An archived indicator takes no readings.", mend="Bring it back from the archive first.")


class Reading(TenantScoped, Base):
    """One value at one moment. The moment is the identity: sending the same reading twice changes nothing."""

    __tablename__ = "readings"
    __retention__ = with_parent(Indicator.__tablename__, reason="readings live and die with their indicator")
    __table_args__ = (
        ForeignKeyConstraint(["organization_id", "indicator_id"], ["indicators.organization_id", "indicators.id"]),
        CheckConstraint("value > '-Infinity' AND value < 'Infinity'", name="finite"),
    )

    organization_id: Mapped[UUID] = mapped_column(primary_key=True, info=internal("tenant"))
    indicator_id: Mapped[UUID] = mapped_column(primary_key=True, info=internal())
    at: Mapped[datetime] = mapped_column(primary_key=True, info=internal())
    value: Mapped[float] = mapped_column(Double, info=content())
    corrected_at: Mapped[datetime | None] = mapped_column(info=internal())


class ReadingHour(TenantScoped, Base):
    """Summary of one hour, kept in the same transaction as its readings: a year's chart reads 8,760 rows at most."""

    __tablename__ = "reading_hours"
    __retention__ = with_parent(Indicator.__tablename__, reason="derived from readings")
    __table_args__ = (
        ForeignKeyConstraint(["organization_id", "indicator_id"], ["indicators.organization_id", "indicators.id"]),
    )

    organization_id: Mapped[UUID] = mapped_column(primary_key=True, info=internal("tenant"))
    indicator_id: Mapped[UUID] = mapped_column(primary_key=True, info=internal())
    hour: Mapped[datetime] = mapped_column(primary_key=True, info=internal())
    count: Mapped[int] = mapped_column(Integer, info=internal())
    total: Mapped[float] = mapped_column(Double, info=content())
    low: Mapped[float] = mapped_column(Double, info=content())
    high: Mapped[float] = mapped_column(Double, info=content())


class IndicatorWord(TenantScoped, Base):
    """Inverted index for search, filled by a trigger (migrations/sql/indicators.sql).

    Why not a GIN index: its operator is not leakproof, so PostgreSQL will not use it under row-level security
    (docs/decisions/0005-search-under-row-level-security.md). Comparing text is.
    """

    __tablename__ = "indicator_words"
    __retention__ = with_parent(Indicator.__tablename__, reason="derived from the indicator")
    __table_args__ = (
        ForeignKeyConstraint(["organization_id", "indicator_id"], ["indicators.organization_id", "indicators.id"]),
        Index("ix_indicator_words_organization_id_indicator_id", "organization_id", "indicator_id"),
    )

    organization_id: Mapped[UUID] = mapped_column(primary_key=True, info=internal("tenant"))
    word: Mapped[str] = mapped_column(String(100, collation="C"), primary_key=True, info=content())
    indicator_id: Mapped[UUID] = mapped_column(primary_key=True, info=internal())
