"""Contradictions that our own tables show, whatever Stripe says: each kind of them a row with an id to begin with."""

from __future__ import annotations

from service.features.billing.models.derive import OVERRIDE_SLACK
from service.features.billing.models.mirror import LIVE, TERMINAL
from service.features.billing.models.plans import BY_LOOKUP_KEY, FREE

KINDS = (
    "state_differs", "local_only", "stripe_only", "several_live", "paid_without_entitlement",
    "entitlement_without_cause", "customer_without_organization", "operation_unknown", "ledger_differs",
)  # fmt: skip
# Whoever waits for a reading is left out everywhere: what contradicts itself now may agree in a second. One kind is
# mended by another reading, and says whose.
LOCAL = """
    WITH copy AS (
        SELECT customer.organization_id, customer.id AS customer_id, dirty_gen AS gen, stripe_id, status, items
        FROM billing_customers AS customer JOIN billing_subscriptions AS subscription
            ON subscription.customer_id = customer.id AND dirty_gen = synced_gen AND livemode = $6
    ), held AS (
        SELECT organization_id FROM entitlements
        WHERE plan <> $3 AND (valid_until IS NULL OR valid_until > now())
    )
    SELECT 'paid_without_entitlement' AS kind, stripe_id AS id, customer_id, gen FROM copy
    WHERE status IN ('trialing', 'active') AND organization_id NOT IN (SELECT organization_id FROM held)
      AND EXISTS (SELECT FROM jsonb_array_elements(items) AS item WHERE item ->> 'lookup_key' = ANY($2))
    UNION ALL
    SELECT 'several_live', min(stripe_id), NULL, NULL FROM copy
    WHERE status = ANY($1) GROUP BY organization_id HAVING count(*) > 1
    UNION ALL
    SELECT 'entitlement_without_cause', organization_id::text, NULL, NULL FROM held
    WHERE organization_id NOT IN (SELECT organization_id FROM billing_customers WHERE dirty_gen > synced_gen)
      AND organization_id NOT IN (SELECT organization_id FROM billing_overrides WHERE ends_at > now() - $5::interval)
      AND organization_id NOT IN (SELECT organization_id FROM copy WHERE status <> ALL($4))
    UNION ALL
    SELECT 'customer_without_organization', stripe_id, NULL, NULL FROM copy
        JOIN organizations ON organizations.id = organization_id AND deleted_at < now() - interval '1 hour'
    WHERE status = ANY($1)
    UNION ALL
    SELECT 'operation_unknown', id::text, NULL, NULL FROM billing_operations
    WHERE status = 'unknown' AND first_sent_at < now() - interval '1 hour'
"""


def local_arguments(livemode: bool) -> tuple[object, ...]:
    return list(LIVE), list(BY_LOOKUP_KEY), FREE.key, [*TERMINAL, "incomplete"], OVERRIDE_SLACK, livemode
