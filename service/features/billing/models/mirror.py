"""Our copy of what Stripe holds: subscriptions and invoices as they were read, every column at every reading.

One writer (flows/apply.py) writes whole rows, nulls included: an un-cancelled subscription whose `cancel_at` was merely
"not in the update" stayed cancelled, and ended at midnight.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, Select, String, Text, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from service.core.database import Base
from service.features.billing.models.customer import BillingCustomer, in_mode
from service.guardrails.personal_data import internal
from service.guardrails.retention import with_parent
from service.guardrails.tenancy import TenantScoped
from service.integrations.stripe.readings import STATUSES, UNKNOWN

TERMINAL = ("canceled", "incomplete_expired")
"""What a subscription never comes back from (https://docs.stripe.com/billing/subscriptions/overview)."""
LIVE = ("trialing", "active", "past_due", "unpaid", "paused")
"""What keeps or may again earn a plan; an organization should have at most one of these."""


class Subscription(TenantScoped, Base):
    __tablename__ = "billing_subscriptions"
    __retention__ = with_parent("organizations", reason="what an organization subscribed to ends with it")
    __table_args__ = (
        Index("ix_billing_subscriptions_organization_id_created_at", "organization_id", "created_at"),
        CheckConstraint(f"status IN {(*STATUSES, UNKNOWN)!r}", name="status"),
    )

    stripe_id: Mapped[str] = mapped_column(String(255), primary_key=True, info=internal())
    customer_id: Mapped[UUID] = mapped_column(ForeignKey("billing_customers.id"), index=True, info=internal())
    status: Mapped[str] = mapped_column(String(32), info=internal())
    """As Stripe says, or "unknown" for a word that did not exist when this was written."""
    currency: Mapped[str] = mapped_column(String(3), info=internal())
    items: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, info=internal())
    """Every item: id, price, product, lookup_key, quantity, unit_amount, usage_type, period_start, period_end."""
    cancel_at: Mapped[datetime | None] = mapped_column(info=internal())
    cancel_at_period_end: Mapped[bool] = mapped_column(info=internal())
    canceled_at: Mapped[datetime | None] = mapped_column(info=internal())
    ended_at: Mapped[datetime | None] = mapped_column(info=internal())
    trial_start: Mapped[datetime | None] = mapped_column(info=internal())
    trial_end: Mapped[datetime | None] = mapped_column(info=internal())
    period_start: Mapped[datetime | None] = mapped_column(info=internal())
    period_end: Mapped[datetime | None] = mapped_column(info=internal())
    collection_method: Mapped[str | None] = mapped_column(String(32), info=internal())
    pause_collection: Mapped[dict[str, Any] | None] = mapped_column(info=internal())
    pending_update: Mapped[dict[str, Any] | None] = mapped_column(info=internal())
    schedule_id: Mapped[str | None] = mapped_column(String(255), info=internal())
    latest_invoice_id: Mapped[str | None] = mapped_column(String(255), info=internal())
    created_at: Mapped[datetime] = mapped_column(info=internal())
    fetched_at: Mapped[datetime] = mapped_column(info=internal())
    digest: Mapped[str] = mapped_column(String(64), info=internal())
    """Of the columns above without `fetched_at`: what a sweep compares."""

    @property
    def ends_at(self) -> datetime | None:
        """When it will end by somebody's wish. The portal sets `cancel_at` alone, older integrations the flag alone."""
        return self.cancel_at or (self.period_end if self.cancel_at_period_end else None)


def subscriptions_in_mode(organization_id: UUID | None, livemode: bool) -> Select[Subscription]:
    mine = select(BillingCustomer.id).where(*in_mode(organization_id, livemode))
    return select(Subscription).where(Subscription.customer_id.in_(mine))


class Invoice(TenantScoped, Base):
    __tablename__ = "billing_invoices"
    __retention__ = with_parent("organizations", reason="the customer's invoices; Stripe keeps them for the tax office")
    __table_args__ = (
        Index("ix_billing_invoices_organization_id_created_at_id", "organization_id", "created_at", "stripe_id"),
    )

    stripe_id: Mapped[str] = mapped_column(String(255), primary_key=True, info=internal())
    customer_id: Mapped[UUID] = mapped_column(ForeignKey("billing_customers.id"), index=True, info=internal())
    subscription_id: Mapped[str | None] = mapped_column(String(255), info=internal())
    number: Mapped[str | None] = mapped_column(String(64), info=internal())
    reason: Mapped[str | None] = mapped_column(String(64), info=internal())
    status: Mapped[str] = mapped_column(String(32), info=internal())
    currency: Mapped[str] = mapped_column(String(3), info=internal())
    total: Mapped[int] = mapped_column(BigInteger, info=internal())
    """Minor units, as all amounts here; negative after a proration credit. Never computed by us."""
    amount_due: Mapped[int] = mapped_column(BigInteger, info=internal())
    amount_paid: Mapped[int] = mapped_column(BigInteger, info=internal())
    attempt_count: Mapped[int] = mapped_column(Integer, info=internal())
    next_attempt_at: Mapped[datetime | None] = mapped_column(info=internal())
    needs_action: Mapped[bool] = mapped_column(info=internal())
    """The customer's bank wants them to confirm the payment (3-D Secure)."""
    hosted_url: Mapped[str | None] = mapped_column(Text, info=internal())
    pdf_url: Mapped[str | None] = mapped_column(Text, info=internal())
    period_start: Mapped[datetime | None] = mapped_column(info=internal())
    period_end: Mapped[datetime | None] = mapped_column(info=internal())
    created_at: Mapped[datetime] = mapped_column(info=internal())
    fetched_at: Mapped[datetime] = mapped_column(info=internal())
    digest: Mapped[str] = mapped_column(String(64), info=internal())


class LedgerEntry(TenantScoped, Base):
    """One fact about money: append-only, for the application may neither change nor delete a row.

    A new status of the same charge, refund, dispute or credit note is a new row, also one that it had before (a dispute
    goes back to `needs_response`); the newest row per `stripe_id` counts.
    """

    __tablename__ = "billing_ledger"
    __retention__ = with_parent("organizations", reason="accounts must be explainable as long as they are kept")
    __table_args__ = (
        Index("ix_billing_ledger_organization_id_id", "organization_id", "id"),
        Index("ix_billing_ledger_stripe_id", "stripe_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, info=internal())
    customer_id: Mapped[UUID] = mapped_column(ForeignKey("billing_customers.id"), index=True, info=internal())
    kind: Mapped[str] = mapped_column(String(16), info=internal())
    """charge, refund, dispute or credit_note."""
    stripe_id: Mapped[str] = mapped_column(String(255), info=internal())
    status: Mapped[str] = mapped_column(String(32), info=internal())
    amount: Mapped[int] = mapped_column(BigInteger, info=internal())
    currency: Mapped[str] = mapped_column(String(3), info=internal())
    about: Mapped[str | None] = mapped_column(String(255), info=internal())
    """The charge that a refund or dispute is about, the invoice that a charge or credit note is about."""
    occurred_at: Mapped[datetime] = mapped_column(info=internal())
    recorded_at: Mapped[datetime] = mapped_column(info=internal())


class Effect(TenantScoped, Base):
    """A mail or notice that a fact has set off, once: the key names the business fact, never the event that told us.

    Stripe may make two events for one change, and a replay repeats them all; the customer still gets one mail.
    """

    __tablename__ = "billing_effects"
    __retention__ = with_parent("organizations", reason="a repeated event must not repeat a mail, however late")
    __table_args__ = (Index("ix_billing_effects_organization_id", "organization_id"),)

    effect_key: Mapped[str] = mapped_column(String(255), primary_key=True, info=internal())
    kind: Mapped[str] = mapped_column(String(32), info=internal())
    created_at: Mapped[datetime] = mapped_column(info=internal())
    outcome: Mapped[str | None] = mapped_column(String(32), info=internal())
    """sent, or why not: the state was read again just before sending."""
    settled_at: Mapped[datetime | None] = mapped_column(info=internal())
