"""Subscriptions and messages, as staff find them."""

from __future__ import annotations

from service.features.billing import queries
from service.features.billing.admin.messages import MESSAGES
from service.features.billing.queries.staff import SubscriptionsWanted
from service.web.staff import Column, of_organizations

LIVE = {"active": "success", "trialing": "success", "past_due": "warning", "unpaid": "danger", "canceled": ""}
STAFF = (
    *MESSAGES,
    of_organizations(
        "/staff/subscriptions",
        "Subscriptions",
        queries.list_subscriptions,
        Column("Subscription", "stripe_id", link="/staff/billing/customers/{customer_id}", kind="break"),
        Column("Status", "status", badges=LIVE),
        Column("Paid until", "period_end"),
        Column("Ends", "cancel_at"),
        Column("Since", "created_at"),
        lead="What organizations pay for, as Stripe says it: of all, or of one.",
        wanted=SubscriptionsWanted,
        order=31,
    ),
)
