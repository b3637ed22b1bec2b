"""From what Stripe says to what an organization may use: a pure function, the same whatever order things came in.

    trialing, active          the plan, until the period's end and some slack
    past_due                  the plan for the days of grace, then read-only
    unpaid, paused            read-only, until Stripe says otherwise
    incomplete                nothing yet
    canceled, incomplete_expired   the free plan

The slack means that a renewal whose event is late does not cut off somebody who pays, and the end that a cancellation
nobody heard of does not give service for ever. What we do not understand (a price or a status that is new) keeps what
held before, until that runs out, and is reported: crashing would stop every customer's billing at a typo of ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from service.features.billing.models.mirror import TERMINAL, Invoice, Subscription
from service.features.billing.models.plans import BY_KEY, BY_LOOKUP_KEY, FREE, Plan

SLACK = timedelta(hours=72)
OVERRIDE_SLACK = timedelta(hours=1)
"""Until the end of a gift is noticed (jobs.py), so that nobody who pays beside it is on the free plan in between."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What holds, until when, and why; `alarms` are what a person of ours must look at."""

    plan: Plan
    full_until: datetime | None = None
    valid_until: datetime | None = None
    source: str = "free"
    alarms: tuple[str, ...] = field(default=(), compare=False)


def derive(
    subscriptions: Iterable[Subscription],
    invoices: Iterable[Invoice],
    overrides: Iterable[tuple[str, datetime]],
    last: Grant | None,
    *,
    grace: timedelta,
    now: datetime,
) -> Grant:
    """The best of what is paid for and what staff gave; `overrides` are (plan, end)."""
    overdue = _overdue(invoices)
    found: list[Grant] = []
    alarms, puzzled = [], False
    for subscription in subscriptions:
        plan = _plan_of(subscription)
        if subscription.status in TERMINAL or subscription.status == "incomplete":
            continue
        if plan is None:
            puzzled = True
            alarms.append(f"unknown price or status: {subscription.stripe_id}")
        else:
            found.append(_grant(subscription, plan, overdue.get(subscription.stripe_id), grace))
    if len(found) > 1:
        alarms.append("more than one live subscription")
    found += [
        Grant(BY_KEY[plan], valid_until=ends_at + OVERRIDE_SLACK, source="override")
        for plan, ends_at in overrides
        if ends_at > now and plan in BY_KEY
    ]
    if puzzled and last is not None and (last.valid_until is None or last.valid_until > now):
        found.append(last)
    best = max(found, key=_worth, default=Grant(FREE))
    return Grant(best.plan, best.full_until, best.valid_until, best.source, tuple(sorted(alarms)))


def plan_of_item(item: dict[str, object]) -> Plan | None:
    """The plan a price belongs to: by the lookup key read with it, or first read with it where that has moved on."""
    return BY_LOOKUP_KEY.get(str(item.get("lookup_key") or ""))


def _plan_of(subscription: Subscription) -> Plan | None:
    """The best plan among the items: people put a second item, a coupon or an add-on there by hand."""
    plans = [plan for item in subscription.items if (plan := plan_of_item(item))]
    known = subscription.status in ("trialing", "active", "past_due", "unpaid", "paused")
    return max(plans, key=lambda plan: plan.rank) if plans and known else None


def _grant(subscription: Subscription, plan: Plan, overdue_since: datetime | None, grace: timedelta) -> Grant:
    end = subscription.period_end or subscription.trial_end or subscription.created_at
    start = subscription.period_start or subscription.created_at
    if subscription.status in ("unpaid", "paused"):
        # Its period may never move again: were this to run out, who does not pay could write again on the free plan.
        return Grant(plan, start, None, subscription.stripe_id)
    full_until = (overdue_since or start) + grace if subscription.status == "past_due" else None
    return Grant(plan, full_until, end + SLACK, subscription.stripe_id)


def _overdue(invoices: Iterable[Invoice]) -> dict[str, datetime]:
    """Since when each subscription owes: its oldest open invoice that was tried."""
    found: dict[str, datetime] = {}
    for invoice in invoices:
        if invoice.subscription_id and invoice.status in ("open", "uncollectible") and invoice.attempt_count:
            known = found.get(invoice.subscription_id, invoice.created_at)
            found[invoice.subscription_id] = min(known, invoice.created_at)
    return found


def _worth(grant: Grant) -> tuple[bool, int, bool, str, str]:
    """What is paid before what is owed, then the better plan; the rest only makes the order total."""
    ends = grant.valid_until.isoformat() if grant.valid_until else "~"
    return grant.full_until is None, grant.plan.rank, grant.source != "override", ends, grant.source
