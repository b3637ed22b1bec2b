"""What operators watch: events that arrive, and events that nobody dealt with."""

from __future__ import annotations

from prometheus_client import Counter

from service.core import telemetry

webhooks = Counter("sendgrid_events_total", "Events by what became of them", ("result",), registry=telemetry.REGISTRY)
