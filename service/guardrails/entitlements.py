"""What an organization may use: one row per organization, derived from what it pays for, read with every request.

Protects from: limits that live in a pricing page and nowhere else, a paid plan checked by comparing names all over the
code, a customer cut off because one renewal was late. How to use: in an action, before something counted is added:

    await ctx.allow(Feature.INDICATORS)          # raises PlanLimit, which says what to upgrade

and, once, beside the model, how it is counted: `@counted(Feature.INDICATORS)`. Only features.billing writes the row.

Limits: the row says until when it holds (`valid_until`), so a missed event gives neither service for ever nor an end
at midnight; after that the free plan holds. Nothing is ever deleted here: over the limit means no more, not less.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from service.core.database import Base
from service.guardrails.personal_data import internal
from service.guardrails.retention import days_after, with_parent
from service.guardrails.tenancy import TenantScoped


class Feature(StrEnum):
    """What plans differ in; a number each."""

    INDICATORS = "indicators"
    SEATS = "seats"
    HISTORY_DAYS = "history_days"
    API_PER_MINUTE = "api_per_minute"


class Entitlement(TenantScoped, Base):
    """What holds now. No row: the organization never paid, and the free plan holds."""

    __tablename__ = "entitlements"
    __retention__ = with_parent("organizations", reason="what an organization may use ends with it")

    organization_id: Mapped[UUID] = mapped_column(
        ForeignKey("organizations.id"), primary_key=True, info=internal("tenant")
    )
    plan: Mapped[str] = mapped_column(String(32), info=internal())
    grants: Mapped[dict[str, Any]] = mapped_column(info=internal())
    full_until: Mapped[datetime | None] = mapped_column(info=internal())
    """After this moment the organization is read-only (an unpaid invoice after its days of grace); None: never."""
    valid_until: Mapped[datetime | None] = mapped_column(info=internal())
    """After this moment the free plan holds, whatever else the row says; None: no end (the free plan itself)."""
    source: Mapped[str] = mapped_column(String(64), info=internal())
    version: Mapped[int] = mapped_column(BigInteger, info=internal())
    changed_at: Mapped[datetime] = mapped_column(info=internal())


class EntitlementChange(TenantScoped, Base):
    """One row per change: answers "why could they do that last month?"."""

    __tablename__ = "entitlement_history"
    __retention__ = days_after("at", days=800, reason="a question about an invoice may come two years later")
    __table_args__ = (Index("ix_entitlement_history_organization_id_id", "organization_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True, info=internal())
    at: Mapped[datetime] = mapped_column(index=True, info=internal())
    plan: Mapped[str] = mapped_column(String(32), info=internal())
    grants: Mapped[dict[str, Any]] = mapped_column(info=internal())
    full_until: Mapped[datetime | None] = mapped_column(info=internal())
    valid_until: Mapped[datetime | None] = mapped_column(info=internal())
    source: Mapped[str] = mapped_column(String(64), info=internal())
    version: Mapped[int] = mapped_column(BigInteger, info=internal())
