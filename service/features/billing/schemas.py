"""What a form of the plan page brings, and what the pages show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, StringConstraints

from service.core.schemas import Input, Output
from service.features.billing.models import Kind, Status
from service.features.billing.models.plans import Plan
from service.guardrails.entitlements import Feature
from service.web import formats

Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
WORDS = {
    Feature.INDICATORS: "indicators",
    Feature.SEATS: "people and invitations",
    Feature.SOURCES: "sources",
    Feature.FILES_MB: "MB of files",
}


def costs(items: Iterable[Mapping[str, Any]], currency: str) -> str:
    """`€24.00 per month`, of a subscription's items; one that pays for some things yearly says both."""
    sums: Counter[str] = Counter()
    for item in items:
        count, unit = item.get("interval_count") or 1, item.get("interval") or "month"
        period = f"per {unit}" if count == 1 else f"every {count} {unit}s"
        sums[period] += (item["unit_amount"] or 0) * (item["quantity"] or 0)
    return " and ".join(f"{formats.money(amount, currency)} {period}" for period, amount in sums.items())


class Intent(Input):
    """The nonce of one form: sent twice, it is one wish."""

    intent: Word


class PlanWish(Intent):
    plan: Word


class ChangeWish(PlanWish):
    proration_date: int = Field(ge=0, lt=2**40)


class UsageRead(Output):
    """How many there are of what a plan counts; `room` says how to make some."""

    feature: Feature
    used: int
    room: str

    def over(self, plan: Plan) -> str:
        """The sentence for a plan that includes fewer than there are; empty when it includes enough."""
        limit, word = plan.limits[self.feature], WORDS[self.feature]
        if self.used <= limit:
            return ""
        return f"You have {self.used} {word}; {plan.name} includes {limit}. Nothing was deleted; you cannot add more."


class SubscriptionRead(Output):
    stripe_id: str
    status: str
    plan: Plan | None
    """None for a price that is not ours: put there by hand at Stripe."""
    seats: int
    costs: str
    trial_end: datetime | None
    period_start: datetime | None
    period_end: datetime | None
    ends_at: datetime | None
    pending: Plan | None
    """The plan that waits for its payment."""
    pending_until: datetime | None


class InvoiceRead(Output):
    stripe_id: str
    number: str | None
    status: str
    currency: str
    total: int
    amount_due: int
    attempt_count: int
    needs_action: bool
    hosted_url: str | None
    pdf_url: str | None
    created_at: datetime

    @property
    def is_due(self) -> bool:
        """Somebody has to do something: a payment failed, or waits for a confirmation."""
        return self.status == "open" and (self.attempt_count > 0 or self.needs_action)

    @property
    def amount(self) -> str:
        return formats.money(self.total, self.currency)

    @property
    def owed(self) -> str:
        return formats.money(self.amount_due, self.currency)


class BillingRead(Output):
    """`plan` is what holds now, whatever is paid for; `change_id` is an operation that is on its way."""

    plan: Plan
    full_until: datetime | None
    valid_until: datetime | None
    read_only: bool
    subscription: SubscriptionRead | None
    trial: bool
    """Whether a first subscription would begin with one."""
    usage: list[UsageRead]
    change_id: UUID | None

    @property
    def over(self) -> list[str]:
        return [text for one in self.usage if (text := one.over(self.plan))]


class OperationRead(Output):
    id: UUID
    kind: Kind
    status: Status
    plan: Plan | None
    error_code: str | None
    created_at: datetime
    url: str | None
    """Stripe's page, where one was asked for."""
    unread: bool
    """Something was heard of the customer, or done, that our copy does not show yet."""
