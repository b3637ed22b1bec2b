"""What operators watch: how far behind the copy is, what is stuck, and what nobody understood."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from service.core import telemetry

REGISTRY = telemetry.REGISTRY

webhooks = Counter("stripe_webhooks_total", "Deliveries answered", ("result",), registry=REGISTRY)
acknowledged = Histogram(
    "stripe_acknowledge_seconds", "From the whole body to the commit", registry=REGISTRY,
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2),
)  # fmt: skip
version_mismatches = Counter("stripe_api_version_mismatches_total", "Events of another API version", registry=REGISTRY)
syncs = Counter("billing_syncs_total", "Readings of a customer", ("outcome",), registry=REGISTRY)
lag = Histogram(
    "billing_sync_lag_seconds", "From the first unread message about a customer to its state in our copy",
    registry=REGISTRY, buckets=(0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300),
)  # fmt: skip
alarms = Counter("billing_alarms_total", "What a person must look at", ("what",), registry=REGISTRY)
alarms.labels("other mode")  # exists from the start, or the first one is no increase
misconfigured = Gauge("billing_misconfigured", "1 while Stripe refuses our key", registry=REGISTRY)
price_mismatches = Gauge("billing_price_mismatches", "Prices in Stripe that are not as in plans.py", registry=REGISTRY)
drift = Gauge("billing_drift", "Differences that the last comparison found", ("kind",), registry=REGISTRY)
inbox_oldest = Gauge("billing_inbox_oldest_seconds", "Age of the oldest message that waits", registry=REGISTRY)
inbox_unmatched = Gauge("billing_inbox_unmatched", "Messages whose customer is not known yet", registry=REGISTRY)
dirty = Gauge("billing_customers_dirty", "Customers that wait to be read", registry=REGISTRY)
dirty_oldest = Gauge("billing_customers_dirty_oldest_seconds", "How long the first has waited", registry=REGISTRY)
dead = Gauge("billing_customers_dead", "Customers given up on: dead letters", registry=REGISTRY)
unknown_oldest = Gauge("billing_operations_unknown_oldest_seconds", "Since when no answer", registry=REGISTRY)
silence = Gauge("billing_payment_silence_days", "Days since Stripe last told us of a payment", registry=REGISTRY)
