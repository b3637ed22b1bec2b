"""Our calls to Stripe that change something: written down, with their exact parameters, BEFORE they are made.

An answer that never came leaves the operation `unknown`, and repeating the same bytes under the same key finds out
what became of it, without a second charge. The key is the operation's own id: derived from the parameters, the third
of "to Pro, to Team, to Pro" would be answered with the first one's reply.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Enum, Index, Integer, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock
from service.core.database import Base
from service.core.ids import new_id
from service.guardrails.personal_data import content, internal, pointer
from service.guardrails.retention import with_parent
from service.guardrails.tenancy import TenantScoped


class Kind(StrEnum):
    CUSTOMER = "customer"
    CHECKOUT = "checkout"
    PORTAL = "portal"
    CHANGE_PLAN = "change_plan"
    CANCEL = "cancel"
    RESUME = "resume"
    """Take the cancellation back."""
    SEATS = "seats"
    CANCEL_NOW = "cancel_now"
    REFUND = "refund"


FIRST_GO = timedelta(seconds=15)
"""How long the request that wrote an operation down has to make the call itself, before a worker does."""
MUTATING = (Kind.CHECKOUT, Kind.CHANGE_PLAN, Kind.CANCEL, Kind.RESUME, Kind.SEATS, Kind.CANCEL_NOW, Kind.REFUND)

PAGES = (Kind.CHECKOUT, Kind.PORTAL)
"""What only opens a page of Stripe's: nothing happens before a person acts there."""


class Status(StrEnum):
    PLANNED = "planned"
    IN_FLIGHT = "in_flight"
    UNKNOWN = "unknown"
    """Sent, and nobody knows what became of it."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"


OPEN = (Status.PLANNED, Status.IN_FLIGHT, Status.UNKNOWN)


def _words(kind: type[StrEnum]) -> Enum:
    """Stored as its word and read back as the member: a plain string equals the member, and never `is` it."""
    return Enum(kind, native_enum=False, length=16, values_callable=lambda members: [each.value for each in members])


class Operation(TenantScoped, Base):
    __tablename__ = "billing_operations"
    __retention__ = with_parent("organizations", reason="answers who changed the plan, when, and what Stripe said")
    __table_args__ = (
        UniqueConstraint("idempotency_key"),
        UniqueConstraint("organization_id", "intent"),
        # One change at a time per organization: two Checkout pages, a double click, two staff members take turns.
        Index(
            "uq_billing_operations_in_flight",
            "organization_id",
            unique=True,
            postgresql_where=text(
                "status IN ('planned', 'in_flight', 'unknown') AND kind IN "
                "('checkout', 'change_plan', 'cancel', 'resume', 'seats', 'cancel_now', 'refund')"
            ),
        ),
        Index(
            "ix_billing_operations_open",
            "next_attempt_at",
            postgresql_where=text("status IN ('planned', 'in_flight', 'unknown')"),
        ),
        Index("ix_billing_operations_organization_id_id", "organization_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    kind: Mapped[Kind] = mapped_column(_words(Kind), info=internal())
    intent: Mapped[str] = mapped_column(String(64), info=internal())
    """The asker's name for this one wish (a form's nonce): the same click twice is one operation."""
    wish: Mapped[dict[str, Any]] = mapped_column(info=internal())
    """What was asked for, in our words: plan, seats, amount. The request is made from it once, and frozen."""
    method: Mapped[str | None] = mapped_column(String(8), info=internal())
    path: Mapped[str | None] = mapped_column(String(255), info=internal())
    params: Mapped[dict[str, Any] | None] = mapped_column(info=content("billing"))
    """The exact request; set, with `first_sent_at`, in the transaction before the first sending."""
    idempotency_key: Mapped[str] = mapped_column(String(255), info=internal())
    status: Mapped[Status] = mapped_column(_words(Status), default=Status.PLANNED, info=internal())
    result_id: Mapped[str | None] = mapped_column(String(255), info=internal())
    result_url: Mapped[str | None] = mapped_column(info=internal())
    error_code: Mapped[str | None] = mapped_column(String(64), info=internal())
    attempts: Mapped[int] = mapped_column(Integer, default=0, server_default="0", info=internal())
    actor: Mapped[str] = mapped_column(String(64), info=internal())
    reason: Mapped[str] = mapped_column(String(200), default="", server_default="", info=internal())
    """Why staff did this; empty for the organization's own people."""
    created_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())
    first_sent_at: Mapped[datetime | None] = mapped_column(info=internal())
    next_attempt_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())
    settled_at: Mapped[datetime | None] = mapped_column(info=internal())


class PlanOverride(TenantScoped, Base):
    """A plan given by staff, with a reason and an end; beside what is paid for, the better of the two counts."""

    __tablename__ = "billing_overrides"
    __retention__ = with_parent("organizations", reason="explains a plan that nobody paid for")
    __table_args__ = (Index("ix_billing_overrides_organization_id_ends_at", "organization_id", "ends_at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    plan: Mapped[str] = mapped_column(String(32), info=internal())
    reason: Mapped[str] = mapped_column(String(200), info=internal())
    created_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())
    created_by: Mapped[UUID] = mapped_column(info=pointer())
    ends_at: Mapped[datetime] = mapped_column(info=internal())
