"""What operators watch: how askings end per outside system, and whether they happen at all."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from service.core import telemetry

REGISTRY = telemetry.REGISTRY

pulls = Counter("source_pulls_total", "Askings of sources by outcome", ("kind", "outcome"), registry=REGISTRY)
seconds = Histogram("source_pull_seconds", "Time of one asking", ("kind",), buckets=telemetry.FAST, registry=REGISTRY)
overdue = Gauge("sources_overdue_seconds", "How long the source that is due longest has waited", registry=REGISTRY)
