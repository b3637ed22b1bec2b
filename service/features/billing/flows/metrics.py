"""What operators watch: how far behind the copy is, what is stuck, and what nobody understood."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from service.core import telemetry

REGISTRY = telemetry.REGISTRY

webhooks = Counter("stripe_webhooks_total", "Deliveries answered", ("result",), registry=REGISTRY)
acknowledged = Histogram(
    "stripe_acknowledge_seconds",
    "From the whole body to the commit",
    registry=REGISTRY,
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2),
)
version_mismatches = Counter("stripe_api_version_mismatches_total", "Events of another API version", registry=REGISTRY)
syncs = Counter("billing_syncs_total", "Readings of a customer", ("outcome",), registry=REGISTRY)
lag = Histogram(
    "billing_sync_lag_seconds",
    "From the first unread message about a customer to its state in our copy",
    registry=REGISTRY,
    buckets=(0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300),
)
alarms = Counter("billing_alarms_total", "What a person must look at", ("what",), registry=REGISTRY)
misconfigured = Gauge("billing_misconfigured", "1 while Stripe refuses our key", registry=REGISTRY)
