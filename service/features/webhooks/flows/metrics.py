"""What operators watch: whether messages leave, how late, and how many endpoints take none."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from service.core import telemetry

REGISTRY = telemetry.REGISTRY

attempts = Counter(
    "webhook_attempts_total", "Attempts to deliver, by what came of them", ("outcome",), registry=REGISTRY
)
lag = Histogram(
    "webhook_first_attempt_lag_seconds", "From when a message was due to the end of its first attempt",
    registry=REGISTRY, buckets=(0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600),
)  # fmt: skip
in_flight = Gauge("webhook_in_flight", "Attempts that run in this worker", registry=REGISTRY)
overdue = Gauge(
    "webhook_overdue_seconds", "Age of the oldest message due at an endpoint that answers", registry=REGISTRY
)
waiting = Gauge("webhook_endpoints_waiting", "Endpoints for which messages are due", registry=REGISTRY)
failing = Gauge("webhook_endpoints_failing", "Active endpoints whose last attempt failed", registry=REGISTRY)
disabled = Gauge("webhook_endpoints_disabled", "Endpoints that were switched off for failing", registry=REGISTRY)
