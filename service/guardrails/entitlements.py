"""What an organization may use: one row per organization, derived from what it pays for, read with every request.

Protects from: limits that live in a pricing page and nowhere else, a paid plan checked by comparing names all over the
code, a customer cut off because one renewal was late. How to use: in an action, before something counted is added:

    await ctx.allow(Feature.INDICATORS)          # raises PlanLimit, which says what to upgrade

and, once, beside the actions that ask, how it is counted: `@counted(Feature.INDICATORS, "delete one")`. Nothing for
requests per minute (guardrails.gate counts them) and for an unpaid organization: every `@action` that requires a role
is refused while it is read-only, but for those marked `while_unpaid`. Only features.billing writes the row.

Two who add at once take turns: the second counts what the first has added, and never a moment too early.

Limits: the row says until when it holds (`valid_until`), so a missed event gives neither service for ever nor an end
at midnight; after that the free plan holds. Nothing is ever deleted here: over the limit means no more, not less.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, String, select
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock
from service.core.context import Access, Context
from service.core.context import Entitlements as Entitlements
from service.core.database import Base
from service.core.errors import Forbidden
from service.core.statements import Prepared, PreparedText
from service.guardrails.personal_data import internal
from service.guardrails.retention import days_after, with_parent
from service.guardrails.tenancy import TenantScoped


class Feature(StrEnum):
    """What plans differ in; a number each."""

    INDICATORS = "indicators"
    SEATS = "seats"
    SOURCES = "sources"
    HISTORY_DAYS = "history_days"
    API_PER_MINUTE = "api_per_minute"
    FILES_MB = "megabytes"


class Holding:
    """What the present row and each row of the history say."""

    plan: Mapped[str] = mapped_column(String(32), info=internal())
    grants: Mapped[dict[str, Any]] = mapped_column(info=internal())
    full_until: Mapped[datetime | None] = mapped_column(info=internal())
    """After this moment the organization is read-only (an unpaid invoice after its days of grace); None: never."""
    valid_until: Mapped[datetime | None] = mapped_column(info=internal())
    """After this moment the free plan holds, whatever else the row says; None: no end (the free plan itself)."""
    source: Mapped[str] = mapped_column(String(64), info=internal())
    version: Mapped[int] = mapped_column(BigInteger, info=internal())


class Entitlement(Holding, TenantScoped, Base):
    """What holds now. No row: the organization never paid, and the free plan holds."""

    __tablename__ = "entitlements"
    __retention__ = with_parent("organizations", reason="what an organization may use ends with it")

    organization_id: Mapped[UUID] = mapped_column(
        ForeignKey("organizations.id"), primary_key=True, info=internal("tenant")
    )
    changed_at: Mapped[datetime] = mapped_column(info=internal())


class EntitlementChange(Holding, TenantScoped, Base):
    """One row per change: answers "why could they do that last month?"."""

    __tablename__ = "entitlement_history"
    __retention__ = days_after("at", days=800, reason="a question about an invoice may come two years later")
    __table_args__ = (Index("ix_entitlement_history_organization_id_id", "organization_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True, info=internal())
    at: Mapped[datetime] = mapped_column(index=True, info=internal())


COLUMNS = (Entitlement.plan, Entitlement.grants, Entitlement.full_until, Entitlement.valid_until)
MINE = Prepared(select(*COLUMNS))
TAKE_TURNS = PreparedText(
    "SELECT pg_advisory_xact_lock(hashtextextended(:feature || ':' || CAST(:context_tenant AS uuid), 0))"
)

Counter = Callable[[Context], Awaitable[int]]
COUNTERS: dict[Feature, tuple[Counter, str]] = {}
"""How many there are now, and how to make room."""


class NotInPlan(Forbidden):
    code, title = "not-in-plan", "Not in your plan"
    meaning = "The organization's plan does not include this."
    way_out: ClassVar[tuple[str, str]] = ("Plan and billing", "/billing")


class PlanLimit(NotInPlan):
    code, title = "plan-limit", "Your plan's limit is reached"
    default_mend = "Upgrade on the plan page (/billing)."
    meaning = "The plan includes this up to a number, and that is reached. What is stored already stays."


class PaymentDue(NotInPlan):
    """Would be 402, which RFC 9110 (15.5.3) reserves: programs know it by its code."""

    code, title = "payment-due", "Read-only until it is paid"
    default_mend = "Pay on the plan page (/billing); reading, leaving and deleting work as always."
    meaning = "A payment is overdue, so the organization can be read and not changed. Nothing is lost."


@dataclass(frozen=True, slots=True)
class Plans:
    """What the composition root tells of the plans on sale: which holds where no row does, and what they are called."""

    free: str
    limits: dict[str, int]
    names: Mapping[str, str]
    sold: bool = True
    """False where billing is off: nobody is told to upgrade."""


def counted(feature: Feature, room: str) -> Callable[[Counter], Counter]:
    """Registers how many of these the acting organization has; `room` goes on after "Upgrade ..., or"."""

    def register(counter: Counter) -> Counter:
        if feature in COUNTERS:
            raise ValueError(f"{feature} is counted twice: the two would disagree one day")
        COUNTERS[feature] = counter, room
        return counter

    return register


def current(
    row: Mapping[str, Any] | None, plans: Plans, now: datetime, organization_id: UUID | None = None
) -> Entitlements:
    """What holds now: the row's, or the free plan's where there is none (an outer join's is empty) or it has expired.

    A feature that is younger than the row has the free plan's number until the row is written anew.
    """
    if row is None or row["plan"] is None or (row["valid_until"] is not None and row["valid_until"] <= now):
        return Entitlements(plans.free, plans.limits, organization_id=organization_id)
    limits = plans.limits | row["grants"]
    return Entitlements(row["plan"], limits, row["full_until"], row["valid_until"], organization_id)


async def of(ctx: Context) -> Entitlements:
    """The acting organization's: brought along by a request, asked for by a job or after going elsewhere."""
    held = ctx.entitlements
    if held is None or held.organization_id != ctx.work.tenant:
        row = await ctx.fetch_one(MINE)
        held = ctx.entitlements = current(row, ctx.resources.get(Plans), clock.now(), ctx.work.tenant)
    return held


async def allow(ctx: Context, feature: StrEnum, more: int = 1) -> None:
    """Behind `ctx.allow`: raises PlanLimit when so many more are too many, PaymentDue when there may be none at all.

    Ask before the change: a change that is flushed already would wait for its turn while it holds locks.
    """
    await refuse_while_unpaid(ctx)
    held, (count, room) = await of(ctx), COUNTERS[Feature(feature)]
    # Two statements: one that waits for its turn inside would still count what it saw before it waited.
    await ctx.fetch(TAKE_TURNS, feature=feature)
    if (used := await count(ctx)) + more > (limit := held.limits[feature]):
        raise PlanLimit(
            f"{_plan(ctx, held)} includes {limit} {feature}, and you have {used}.",
            mend=f"Upgrade on the plan page (/billing), or {room}." if _plans(ctx).sold else f"{room.capitalize()}.",
        )


async def refuse_while_unpaid(ctx: Context) -> None:
    """Raises PaymentDue when the days of grace after a failed payment are over."""
    if (await of(ctx)).access(clock.now()) is Access.READ_ONLY:
        raise PaymentDue("This organization is read-only, because a payment is due.")


async def history(ctx: Context) -> tuple[timedelta, str]:
    """How far back reading may go, and the sentence for whoever asks for more. Nothing is deleted."""
    held = await of(ctx)
    days = held.limits[Feature.HISTORY_DAYS]
    more = ", and a larger plan shows it (/billing)" if _plans(ctx).sold else ""
    return timedelta(days=days), f"{_plan(ctx, held)} shows the last {days} days. What is older is kept{more}."


def _plans(ctx: Context) -> Plans:
    return ctx.resources.get(Plans)


def _plan(ctx: Context, held: Entitlements) -> str:
    return f"Your plan ({_plans(ctx).names.get(held.plan, held.plan)})"
