"""Endpoints, the messages that wait for them or were delivered, and every attempt.

    waiting -> sending -> delivered
       ^         |
       +---------+-----> failed      given up, or skipped by a person; a replay makes it wait again

What is promised: at least once, within days, signed; in the order of the changes to an endpoint that asks for order
(one at a time), in no order to the others. A message keeps its id and its bytes over all attempts and replays.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from random import uniform
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKeyConstraint, Identity, Index, String, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock
from service.core.database import Base
from service.core.errors import Conflict
from service.core.ids import new_id
from service.guardrails.personal_data import content, internal
from service.guardrails.personal_data import secret as credential
from service.guardrails.retention import Retention, after_deletion, with_parent
from service.guardrails.sealed import key_index, seal, sealed, unseal
from service.guardrails.soft_delete import SoftDeletable
from service.guardrails.tenancy import TenantScoped

OVERLAP = timedelta(hours=24)
"""How long both secrets sign after a rotation."""
GIVE_UP_AFTER = timedelta(days=3)
"""An endpoint that failed for so long, without one success, is disabled."""

SCHEDULE = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 60, 300, 1_800, 2 * 3_600, 5 * 3_600, 10 * 3_600, 14 * 3_600, 20 * 3_600)
)
"""Waits after the first, second ... failure of one message: ten attempts in a little over two days."""
REST = (timedelta(seconds=1), timedelta(minutes=5))
"""An endpoint that fails is left alone: the first and the longest pause, doubled each time, whatever waits for it."""


class State(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"  # by a person: messages are kept and wait
    DISABLED = "disabled"  # by us: it failed for days, or said that it is gone; nothing new is kept for it


class Progress(StrEnum):
    WAITING = "waiting"
    SENDING = "sending"
    DELIVERED = "delivered"
    FAILED = "failed"


def wait_after(tries: int) -> timedelta | None:
    """Until the next attempt of a message; None: that was the last. Jitter, or all come back together."""
    if tries > len(SCHEDULE):
        return None
    return SCHEDULE[tries - 1] * uniform(0.8, 1.2)  # noqa: S311 - spreading, not secrecy


def rest_after(failures: int) -> timedelta:
    """How long an endpoint is left alone after so many failures in a row."""
    first, longest = REST
    return min(longest, first * float(2 ** min(failures - 1, 20))) * uniform(0.8, 1.2)  # noqa: S311 - spreading


class Endpoint(TenantScoped, SoftDeletable, Base):
    __tablename__ = "webhook_endpoints"
    __retention__ = after_deletion(days=7, reason="an endpoint that was deleted by mistake can be restored for a week")
    __table_args__ = (
        UniqueConstraint("organization_id", "id"),
        Index("ix_webhook_endpoints_failing", "failing_since", postgresql_where=text("failing_since IS NOT NULL")),
        key_index("webhook_endpoints", "secret"),
        key_index("webhook_endpoints", "old_secret"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    url: Mapped[str] = mapped_column(String(2_000), info=content())
    description: Mapped[str] = mapped_column(String(120), info=content())
    event_types: Mapped[list[str]] = mapped_column(ARRAY(String(64)), info=internal())
    ordered: Mapped[bool] = mapped_column(info=internal())
    state: Mapped[State] = mapped_column(String(16), default=State.ACTIVE, info=internal())
    reason: Mapped[str] = mapped_column(String(16), default="", info=internal())
    secret: Mapped[bytes] = mapped_column(info=sealed(credential()))
    old_secret: Mapped[bytes | None] = mapped_column(info=sealed(credential(), once_in="secret"))
    old_secret_until: Mapped[datetime | None] = mapped_column(info=internal())
    created_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())
    changed_at: Mapped[datetime] = mapped_column(
        default=clock.now, onupdate=clock.now, server_default=text("now()"), info=internal()
    )
    failures: Mapped[int] = mapped_column(default=0, info=internal())
    failing_since: Mapped[datetime | None] = mapped_column(info=internal())
    resume_at: Mapped[datetime | None] = mapped_column(info=internal())
    slow: Mapped[bool] = mapped_column(default=False, server_default=text("false"), info=internal())
    """Whether the last answer took seconds."""

    def keep_secret(self, plain: str) -> None:
        """Make this the secret; the one before it goes on signing for a day."""
        if self.secret is not None:
            self.old_secret = seal(Endpoint.old_secret, self.open_secret(), self.id)
            self.old_secret_until = clock.now() + OVERLAP
        self.secret = seal(Endpoint.secret, plain, self.id)

    def open_secret(self) -> str:
        return unseal(Endpoint.secret, self.secret, self.id).decode()

    def pause(self) -> None:
        if self.state != State.ACTIVE:
            raise Conflict("This endpoint gets nothing already.", mend="Reload to see its current state.")
        self.state = State.PAUSED

    def enable(self) -> None:
        if self.state == State.ACTIVE:
            raise Conflict("This endpoint is active already.", mend="Reload to see its current state.")
        self.state, self.reason = State.ACTIVE, ""
        self.failures, self.failing_since, self.resume_at, self.slow = 0, None, None, False

    def disable(self, reason: str) -> None:
        self.state, self.reason = State.DISABLED, reason

    def insist_on_active(self) -> None:
        if self.state != State.ACTIVE:
            raise Conflict("This endpoint is not active, so nothing is sent to it.", mend="Enable it first.")


def payload_of(organization_id: UUID | None, event_type: str, data: dict[str, Any]) -> dict[str, Any]:
    """Sparse, so that it can stay as it is: what happened, when, to which; the API has the rest."""
    return {
        "type": event_type,
        "timestamp": clock.now().isoformat(),
        "data": {"organization_id": str(organization_id), **data},
    }


def open_secrets(
    endpoint_id: UUID, now: datetime, secret: bytes, old_secret: bytes | None, old_secret_until: datetime | None
) -> list[str]:
    """The secrets that sign at this moment, newest first."""
    valid = [unseal(Endpoint.secret, secret, endpoint_id)]
    if old_secret is not None and old_secret_until is not None and old_secret_until > now:
        valid.append(unseal(Endpoint.old_secret, old_secret, endpoint_id))
    return [each.decode() for each in valid]


class Delivery(TenantScoped, Base):
    """One message for one endpoint: the outbox, and afterwards the log.

    `bundle` names what may still be added to it: readings that come within seconds are one message.
    """

    __tablename__ = "webhook_deliveries"
    __retention__ = Retention("the log, and what can be replayed", 30, "created_at", Endpoint.__tablename__)
    __table_args__ = (
        UniqueConstraint("organization_id", "id"),
        ForeignKeyConstraint(
            ["organization_id", "endpoint_id"], ["webhook_endpoints.organization_id", "webhook_endpoints.id"]
        ),
        Index("ix_webhook_deliveries_log", "organization_id", "endpoint_id", "created_at", "id"),
        Index("ix_webhook_deliveries_state", "organization_id", "endpoint_id", "state", "created_at", "id"),
        Index("ix_webhook_deliveries_created_at", "created_at"),
        Index("ix_webhook_deliveries_failed", "created_at", "id", postgresql_where=text("state = 'failed'")),
        Index(
            "ix_webhook_deliveries_due", "endpoint_id", "next_attempt_at", postgresql_where=text("state = 'waiting'")
        ),
        Index("ix_webhook_deliveries_line", "endpoint_id", "seq", postgresql_where=text("state = 'waiting'")),
        Index("ix_webhook_deliveries_lease", "endpoint_id", "lease_until", postgresql_where=text("state = 'sending'")),
        Index(
            "uq_webhook_deliveries_bundle",
            "organization_id",
            "endpoint_id",
            "bundle",
            unique=True,
            postgresql_where=text("state = 'waiting' AND bundle IS NOT NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"), info=internal())
    endpoint_id: Mapped[UUID] = mapped_column(info=internal())
    seq: Mapped[int] = mapped_column(BigInteger, Identity(always=True), info=internal())
    event_id: Mapped[UUID] = mapped_column(info=internal())
    type: Mapped[str] = mapped_column(String(64), info=internal())
    payload: Mapped[dict[str, Any]] = mapped_column(info=content())
    bundle: Mapped[str | None] = mapped_column(String(64), info=internal())
    state: Mapped[Progress] = mapped_column(String(16), info=internal())
    created_at: Mapped[datetime] = mapped_column(info=internal())
    next_attempt_at: Mapped[datetime] = mapped_column(info=internal())
    finished_at: Mapped[datetime | None] = mapped_column(info=internal())
    attempts: Mapped[int] = mapped_column(server_default="0", info=internal())
    tries: Mapped[int] = mapped_column(server_default="0", info=internal())
    last_status: Mapped[int | None] = mapped_column(info=internal())
    lease_token: Mapped[UUID | None] = mapped_column(info=internal())
    lease_until: Mapped[datetime | None] = mapped_column(info=internal())


class Attempt(TenantScoped, Base):
    """What one attempt met with. `error` is ours (no answer, refused address), `response` the customer's server's."""

    __tablename__ = "webhook_attempts"
    __retention__ = with_parent(Delivery.__tablename__, reason="part of its delivery")
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "delivery_id"], ["webhook_deliveries.organization_id", "webhook_deliveries.id"]
        ),
    )

    organization_id: Mapped[UUID] = mapped_column(primary_key=True, info=internal("tenant"))
    delivery_id: Mapped[UUID] = mapped_column(primary_key=True, info=internal())
    number: Mapped[int] = mapped_column(primary_key=True, info=internal())
    at: Mapped[datetime] = mapped_column(info=internal())
    status: Mapped[int | None] = mapped_column(info=internal())
    milliseconds: Mapped[int] = mapped_column(info=internal())
    error: Mapped[str] = mapped_column(String(200), info=internal())
    response: Mapped[str] = mapped_column(Text, info=content())
