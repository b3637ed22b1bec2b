"""Ties an organization to its customer at Stripe, and counts: what has been heard of, and what has been read since.

`dirty_gen` grows with everything that may have changed the customer's state (a webhook, our own call, a sweep, a
person who asks); `synced_gen` is how far the copy has come; `sync_version` counts what was written and is the fence: a
writer that read an older version finds zero rows and throws its reading away. No time stamp orders anything here.

The table has no tenant, because a message names Stripe's customer before anybody knows the organization.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock
from service.core.database import Base
from service.core.ids import new_id
from service.guardrails.inbox import Inbox
from service.guardrails.personal_data import internal
from service.guardrails.retention import forever, with_parent

COALESCE_MS = 150
"""How long the first message of a burst waits for the others: an upgrade at a cycle's close makes two dozen of them
within 200 ms, and one reading serves them all."""
# A customer that fails keeps its pause; one that only waits in a long line (a resync of everybody) need not.
DIRTY = f"""dirty_gen = dirty_gen + 1, next_attempt_at = CASE
    WHEN dirty_gen > synced_gen AND failures > 0 THEN next_attempt_at
    WHEN dirty_gen > synced_gen THEN least(next_attempt_at, now() + interval '{COALESCE_MS} milliseconds')
    ELSE now() + interval '{COALESCE_MS} milliseconds' END"""

INBOX = Inbox(
    "stripe",
    mark=f"""
        UPDATE billing_customers SET {DIRTY}, dirty_since = coalesce(dirty_since, now())
        WHERE stripe_customer_id = $4 AND $8 = 'unmatched' AND NOT EXISTS (SELECT FROM known)
        RETURNING dirty_gen AS gen
    """,  # noqa: S608 - our own constant
)


def reading_of(stripe_customer_id: str, version: int) -> str:
    """The audit log's name for the reading that wrote this version: what a message changed is found by it."""
    return f"stripe {stripe_customer_id} {version}"


class BillingCustomer(Base):
    __tablename__ = "billing_customers"
    __retention__ = with_parent("organizations", reason="the tie to Stripe ends with the organization")
    __table_args__ = (
        UniqueConstraint("stripe_customer_id"),
        # One living customer per organization and mode: two tabs that subscribe at once end up with the same one.
        Index(
            "uq_billing_customers_living",
            "organization_id",
            "livemode",
            unique=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
        Index("ix_billing_customers_organization_id", "organization_id"),
        Index("ix_billing_customers_dirty", "next_attempt_at", postgresql_where=text("dirty_gen > synced_gen")),
        CheckConstraint("synced_gen <= dirty_gen", name="synced_is_not_ahead"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), info=internal("tenant"))
    stripe_customer_id: Mapped[str] = mapped_column(String(255), info=internal())
    livemode: Mapped[bool] = mapped_column(info=internal())
    created_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())
    deleted_at: Mapped[datetime | None] = mapped_column(info=internal())
    """When Stripe said that the customer is gone there; the next checkout makes a new one."""
    sync_version: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0", info=internal())
    dirty_gen: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0", info=internal())
    synced_gen: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0", info=internal())
    dirty_since: Mapped[datetime | None] = mapped_column(info=internal())
    lease_token: Mapped[UUID | None] = mapped_column(info=internal())
    lease_until: Mapped[datetime | None] = mapped_column(info=internal())
    failures: Mapped[int] = mapped_column(Integer, default=0, server_default="0", info=internal())
    next_attempt_at: Mapped[datetime] = mapped_column(default=clock.now, server_default=text("now()"), info=internal())
    dead_at: Mapped[datetime | None] = mapped_column(info=internal())
    """Given up after too many attempts: a dead letter, until a person replays it."""
    last_synced_at: Mapped[datetime | None] = mapped_column(info=internal())
    last_error: Mapped[str | None] = mapped_column(String(200), info=internal())


def living_in(organization_id: UUID | None, livemode: bool) -> tuple[ColumnElement[bool], ...]:
    """Which customer of an organization counts: in this mode, and still there at Stripe."""
    return (*in_mode(organization_id, livemode), BillingCustomer.deleted_at.is_(None))


def in_mode(organization_id: UUID | None, livemode: bool) -> tuple[ColumnElement[bool], ...]:
    """A database that was tried out in test mode goes live with its rows: none of them may grant or block a plan."""
    return BillingCustomer.organization_id == organization_id, BillingCustomer.livemode == livemode


class BillingSweep(Base):
    """How far each comparison with Stripe has come, and what it found last."""

    __tablename__ = "billing_sweeps"
    __retention__ = forever("one row per kind of sweep, overwritten")

    stream: Mapped[str] = mapped_column(String(32), primary_key=True, info=internal())
    cursor: Mapped[int] = mapped_column(BigInteger, info=internal())
    """Seconds since the epoch up to which Stripe's list of events was read; 0 where a sweep reads everything."""
    ran_at: Mapped[datetime] = mapped_column(info=internal())
    drift: Mapped[dict[str, Any]] = mapped_column(info=internal())
