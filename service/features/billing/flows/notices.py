"""Which facts in our copy are worth telling somebody, each under the key of the fact.

From the state, never from an event: two events for one failed attempt are one mail, and an event that came two days
late finds a paid invoice and sets off nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from service.features.billing.models import Invoice, Subscription

TRIAL_NOTICE = timedelta(days=3)
Notice = tuple[str, str, datetime]
"""Key, kind, and when it happened."""


def notices(subscriptions: Iterable[Subscription], invoices: Iterable[Invoice], now: datetime) -> Iterator[Notice]:
    for subscription in subscriptions:
        yield from _about_subscription(subscription, now)
    for invoice in invoices:
        if invoice.subscription_id is not None:
            yield from _about_invoice(invoice)


def _about_subscription(subscription: Subscription, now: datetime) -> Iterator[Notice]:
    name, end = subscription.stripe_id, subscription.trial_end
    if subscription.status == "trialing" and end is not None and end - TRIAL_NOTICE <= now:
        yield f"trial_ending:{name}:{int(end.timestamp())}", "trial_ending", end
    if subscription.status == "canceled" and subscription.ended_at is not None:
        yield f"ended:{name}", "ended", subscription.ended_at


def _about_invoice(invoice: Invoice) -> Iterator[Notice]:
    name, attempt = invoice.stripe_id, invoice.attempt_count
    if invoice.status == "open" and invoice.needs_action:
        yield f"action_required:{name}:{attempt}", "action_required", invoice.created_at
    elif invoice.status == "open" and attempt:
        yield f"payment_failed:{name}:{attempt}", "payment_failed", invoice.created_at
    elif invoice.status == "paid" and attempt > 1:
        yield f"recovered:{name}", "recovered", invoice.created_at
