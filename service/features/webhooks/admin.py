"""Staff see which endpoints take nothing; payloads and secrets are the customers'."""

from __future__ import annotations

from service.features.webhooks import actions, queries
from service.web.dead_letters import DeadLetters
from service.web.staff import Column, of_organizations

STAFF = (
    of_organizations(
        "/staff/webhooks",
        "Failing webhooks",
        queries.list_failing,
        Column("Host", "host", kind="break"),
        Column("State", "standing"),
        Column("Failures in a row", "failures", kind="num"),
        Column("Failing for", "failing_since"),
        lead="Endpoints of customers whose last attempt failed, the longest first.",
        order=50,
    ),
    of_organizations(
        "/staff/webhook-endpoints",
        "Webhook endpoints",
        queries.list_endpoints_for_staff,
        Column("Endpoint", "id", kind="break"),
        Column("State", "state"),
        Column("Failures in a row", "failures", kind="num"),
        Column("Failing for", "failing_since"),
        Column("Deleted", "deleted_at"),
        Column("Made", "created_at"),
        lead="Where organizations are told what happens, and whether that works; no address and no message.",
        order=51,
    ),
)
DEAD_LETTERS = [
    DeadLetters(
        "webhooks",
        "Outgoing webhooks",
        "Messages that a customer's endpoint did not take in ten attempts over two days, or that somebody skipped.",
        "WebhooksLate",
        queries.count_dead,
        queries.list_dead,
        actions.replay_dead,
    )
]
