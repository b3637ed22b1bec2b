"""A source asks one outside system once an hour for the indicators that it feeds; each asking leaves a run.

What is known outlives every failure: readings, the last value and when it was confirmed (`ok_at`) stay as they are
until something newer is known, and `trouble` says in a sentence why nothing is.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from typing import Any
from uuid import UUID

from sqlalchemy import Double, ForeignKey, ForeignKeyConstraint, Index, Integer, String, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock
from service.core.database import Base
from service.core.errors import Conflict
from service.core.ids import new_id
from service.guardrails.personal_data import author, content, internal, secret
from service.guardrails.retention import after_deletion, days_after, with_parent
from service.guardrails.sealed import key_index, seal, sealed, unseal
from service.guardrails.soft_delete import SoftDeletable
from service.guardrails.tenancy import TenantScoped

HOUR = timedelta(hours=1)
LEASE = timedelta(seconds=45)
"""Longer than one asking may take; after that its worker is taken to be dead."""


class Kind(StrEnum):
    RATES = "rates"
    GITHUB = "github"
    PLAUSIBLE = "plausible"

    @property
    def label(self) -> str:
        return {"rates": "Exchange rates", "github": "GitHub repository", "plausible": "Web traffic"}[self]


class Outcome(StrEnum):
    STORED = "stored"
    UNCHANGED = "unchanged"
    AWAY = "away"
    LIMITED = "limited"
    REFUSED = "refused"


class Source(TenantScoped, SoftDeletable, Base):
    __tablename__ = "sources"
    __retention__ = after_deletion(days=30, reason="a deleted source can be restored from the bin for 30 days")
    __table_args__ = (
        UniqueConstraint("organization_id", "id"),
        Index(
            "uq_sources_live_target",
            "organization_id",
            "kind",
            func.lower(text("target")),
            unique=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
        Index(
            "ix_sources_due_kind",
            "kind",
            "next_pull_at",
            postgresql_where=text("deleted_at IS NULL AND paused_at IS NULL"),
        ),
        key_index("sources", "sealed_key"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    kind: Mapped[str] = mapped_column(String(16), info=internal())
    target: Mapped[str] = mapped_column(String(200), info=content())
    """What is watched, as people call it: "EUR to USD", "northwind/storefront", "northwind.example"."""
    config: Mapped[dict[str, Any]] = mapped_column(info=content())
    sealed_key: Mapped[bytes | None] = mapped_column(info=sealed(secret()))
    created_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())
    created_by: Mapped[UUID | None] = mapped_column(
        ForeignKey("users.id", ondelete="SET NULL"), index=True, info=author()
    )
    paused_at: Mapped[datetime | None] = mapped_column(info=internal())
    next_pull_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())
    lease_until: Mapped[datetime | None] = mapped_column(info=internal())
    lease_token: Mapped[UUID | None] = mapped_column(info=internal())
    rest_until: Mapped[datetime | None] = mapped_column(info=internal())
    """The other side asked for silence until then."""
    failures: Mapped[int] = mapped_column(Integer, default=0, server_default="0", info=internal())
    trouble: Mapped[str] = mapped_column(String(300), default="", server_default="", info=content())
    etag: Mapped[str] = mapped_column(String(200), default="", server_default="", info=internal())
    tried_at: Mapped[datetime | None] = mapped_column(info=internal())
    ok_at: Mapped[datetime | None] = mapped_column(info=internal())

    def keep_key(self, key: str) -> None:
        """Encrypted for this row alone: copied to another, it opens nothing. Whatever is under way no longer counts."""
        self.sealed_key = seal(Source.sealed_key, key, self.id) if key else None
        self.etag, self.lease_token, self.lease_until = "", None, None

    def key(self) -> str:
        return unseal(Source.sealed_key, self.sealed_key, self.id).decode() if self.sealed_key else ""

    def take(self, now: datetime) -> UUID:
        """Begin to ask; whoever else thinks they are at it has lost it."""
        self.lease_token, self.lease_until = new_id(), now + LEASE
        return self.lease_token

    def give_back(self, token: UUID) -> None:
        """What was asked comes back; raises Conflict when it was paused, changed or taken over meanwhile."""
        if self.lease_token != token or self.paused_at is not None:
            raise Conflict("This source was changed while it was being asked.", mend="Nothing: it is asked again.")
        self.lease_token = self.lease_until = None
        self.tried_at = clock.now()

    def pause(self, trouble: str = "") -> None:
        if self.paused_at is not None:
            raise Conflict("This source is paused already.", mend="Reload to see its current state.")
        self.paused_at, self.trouble = clock.now(), trouble
        self.lease_token = self.lease_until = None

    def resume(self) -> None:
        if self.paused_at is None:
            raise Conflict("This source is not paused.", mend="Reload to see its current state.")
        self.paused_at, self.failures = None, 0
        self.ask_soon()

    def ask_soon(self) -> None:
        """As soon as a worker has time. Raises Conflict while the other side wants to be left alone."""
        now = clock.now()
        if self.rest_until is not None and self.rest_until > now:
            raise Conflict(
                f"The other side asked us to wait until {self.rest_until:%H:%M} UTC.", mend="It is asked again then."
            )
        self.next_pull_at = now

    def next_turn(self, now: datetime) -> datetime:
        """This source's own minute of the hour, the same each hour: a thousand sources never ask at once."""
        offset = int.from_bytes(blake2b(self.id.bytes, digest_size=4).digest()) % int(HOUR.total_seconds())
        turn = now.replace(minute=0, second=0, microsecond=0) + timedelta(seconds=offset)
        return turn if turn > now else turn + HOUR


class SourceFeed(TenantScoped, Base):
    """Which series of a source goes into which indicator, and how far it has come."""

    __tablename__ = "source_feeds"
    __retention__ = with_parent(Source.__tablename__, reason="ties a source to what it feeds")
    __table_args__ = (
        ForeignKeyConstraint(["organization_id", "source_id"], ["sources.organization_id", "sources.id"]),
        ForeignKeyConstraint(
            ["organization_id", "indicator_id"], ["indicators.organization_id", "indicators.id"], ondelete="CASCADE"
        ),
        # Not unique: a deleted source remembers what it fed. Whose turn it is, the indicator itself says (`source_id`).
        Index("ix_source_feeds_organization_id_indicator_id", "organization_id", "indicator_id"),
    )

    organization_id: Mapped[UUID] = mapped_column(primary_key=True, info=internal("tenant"))
    source_id: Mapped[UUID] = mapped_column(primary_key=True, info=internal())
    series: Mapped[str] = mapped_column(String(32), primary_key=True, info=internal())
    indicator_id: Mapped[UUID] = mapped_column(info=internal())
    last_at: Mapped[datetime | None] = mapped_column(info=internal())
    last_value: Mapped[float | None] = mapped_column(Double, info=content())


class SourceRun(TenantScoped, Base):
    """One asking: what came of it, and how long it took."""

    __tablename__ = "source_runs"
    __retention__ = days_after("at", days=30, reason="explains a gap in a chart for a month")
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "source_id"], ["sources.organization_id", "sources.id"], ondelete="CASCADE"
        ),
        Index("ix_source_runs_organization_id_source_id_id", "organization_id", "source_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    source_id: Mapped[UUID] = mapped_column(info=internal())
    at: Mapped[datetime] = mapped_column(default=clock.now, index=True, info=internal())
    outcome: Mapped[str] = mapped_column(String(16), info=internal())
    added: Mapped[int] = mapped_column(Integer, default=0, info=internal())
    took_ms: Mapped[int] = mapped_column(Integer, info=internal())
    detail: Mapped[str] = mapped_column(String(300), default="", info=content())
