"""Traces and metrics: one sampling decision per request or job; nothing is paid for what is not sampled.

Spans go to an OTLP collector (OTLP_ENDPOINT); a trace that was not sampled still has an id, carried in the logs and
into the jobs it enqueued (W3C Trace Context). Metrics are Prometheus text, served at `/metrics`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.core.masking import masked, masked_number
from service.core.regions import everywhere
from service.core.settings import Settings

REACH = everywhere("one collector, our own; spans carry ids and never content")

REGISTRY = CollectorRegistry()
FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

http_requests = Counter("http_requests_total", "Requests answered", ("method", "route", "status"), registry=REGISTRY)
http_duration = Histogram(
    "http_request_duration_seconds", "Time to answer", ("method", "route"), buckets=FAST, registry=REGISTRY
)
db_pool_size = Gauge("db_pool_size", "Connections this process may open", ("pool",), registry=REGISTRY)
db_pool_in_use = Gauge("db_pool_in_use", "Connections checked out", ("pool",), registry=REGISTRY)
db_pool_waiting = Gauge("db_pool_waiting", "Units of work waiting for a connection", ("pool",), registry=REGISTRY)
db_pool_wait = Histogram(
    "db_pool_wait_seconds", "Time waited for a connection", ("pool",), buckets=FAST, registry=REGISTRY
)
db_pool_timeouts = Counter("db_pool_timeouts_total", "Gave up waiting for a connection", ("pool",), registry=REGISTRY)
db_statements = Counter("db_statements_total", "Statements sent to PostgreSQL", registry=REGISTRY)
loop_lag = Gauge("event_loop_lag_seconds", "How late the event loop woke up, last measurement", registry=REGISTRY)
loop_lag_worst = Gauge("event_loop_lag_worst_seconds", "Worst lag in the last minute", registry=REGISTRY)
redis_up = Gauge("redis_up", "1 when Redis answered the last check", registry=REGISTRY)
redis_errors = Counter("redis_errors_total", "Redis calls that failed or timed out", registry=REGISTRY)
sessions_active = Gauge("sessions_active", "Sessions that have not expired", registry=REGISTRY)
jobs_ready = Gauge("jobs_ready", "Jobs that are due and not picked", registry=REGISTRY)
jobs_oldest_age = Gauge("jobs_oldest_age_seconds", "Age of the oldest job that is due", registry=REGISTRY)
jobs_failed = Gauge("jobs_failed", "Jobs held as dead letters", registry=REGISTRY)
jobs_finished = Counter("jobs_finished_total", "Job runs by outcome", ("job", "outcome"), registry=REGISTRY)
jobs_duration = Histogram("job_duration_seconds", "Time a job ran", ("job",), buckets=FAST, registry=REGISTRY)
audit_seal_lag = Gauge("audit_seal_lag_seconds", "Age of the oldest audit row that is not sealed", registry=REGISTRY)
worker_heartbeat_age = Gauge(
    "worker_heartbeat_age_seconds", "Since any worker last reported; infinite when none ever did", registry=REGISTRY
)
circuit_state = Gauge("circuit_state", "0 closed, 1 one call tries, 2 open", ("name",), registry=REGISTRY)
mails = Counter("mails_total", "Tries to send a mail", ("outcome",), registry=REGISTRY)
mail_waiting = Gauge("mail_waiting", "Mails that were tried and are not sent yet", registry=REGISTRY)
mail_late = Gauge("mail_late_seconds", "For how long no mail has been taken; 0 when all is well", registry=REGISTRY)
stripe_requests = Counter("stripe_requests_total", "Calls to Stripe by outcome", ("outcome",), registry=REGISTRY)
stripe_duration = Histogram("stripe_request_seconds", "Time of a call to Stripe", buckets=FAST, registry=REGISTRY)
stripe_waiting = Gauge("stripe_waiting", "Calls waiting for their turn", registry=REGISTRY)
stripe_clock_skew = Gauge(
    "stripe_clock_skew_seconds", "Our clock minus Stripe's, at its last answer", registry=REGISTRY
)
stripe_signatures = Counter(
    "stripe_signatures_total", "Webhook signatures; 'secret 1' is the newest", ("outcome",), registry=REGISTRY
)

FAREWELL_SECONDS = 2.0
WITHOUT_WORDS: dict[str, Any] = {"record_exception": False, "set_status_on_exception": False}
"""An exception's text may quote a statement with its parameters, or what somebody typed: spans get its class alone."""

_tracer: trace.Tracer = trace.NoOpTracer()
_export: tuple[TracerProvider, SpanExporter] | None = None
_sample_ratio = 0.0
_recording = False
_trace: ContextVar[Trace | None] = ContextVar("trace", default=None)


class Trace:
    """The identity of one request or job across processes; `sampled` decides whether spans are recorded."""

    __slots__ = ("sampled", "span_id", "trace_id")

    def __init__(self, trace_id: int, span_id: int, sampled: bool) -> None:
        self.trace_id, self.span_id, self.sampled = trace_id, span_id, sampled

    @property
    def hex(self) -> str:
        return f"{self.trace_id:032x}"

    def traceparent(self) -> str:
        """W3C Trace Context header value, also stored with each job."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.sampled):02x}"


def configure_tracing(settings: Settings, exporter: SpanExporter | None = None) -> None:
    """Export sampled spans to OTLP_ENDPOINT, or to `exporter` where one is given."""
    global _tracer, _export, _sample_ratio, _recording
    if exporter is None and settings.otlp_endpoint:
        exporter = exporter_to(settings.otlp_endpoint)
    if exporter is None:
        _tracer, _sample_ratio, _recording = trace.NoOpTracer(), 0.0, False
        return
    provider = TracerProvider(resource=Resource.create({"service.name": "ballast"}))
    # Half of the default: spans that wait for a lost collector held 20 MB. What does not fit is dropped.
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=1024, max_export_batch_size=256))
    _tracer, _sample_ratio, _recording = provider.get_tracer("ballast"), settings.trace_sample_ratio, True
    _export = provider, exporter


def exporter_to(address: str) -> SpanExporter:
    """To the collector itself: no proxy that the environment names, and no redirect."""
    import requests
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    session = requests.Session()
    session.trust_env = False
    return OTLPSpanExporter(endpoint=f"{address.rstrip('/')}/v1/traces", timeout=5, session=session)


async def stop_tracing() -> None:
    """Send what was not sent yet: the last seconds before a process ends are the ones that people ask about.

    A collector that does not answer gets FAREWELL_SECONDS; the exporter's own 30 would outlive the process.
    """
    global _export
    if _export is None:
        return
    (provider, exporter), _export = _export, None
    ending = asyncio.create_task(asyncio.to_thread(provider.shutdown))
    await asyncio.wait([ending], timeout=FAREWELL_SECONDS)
    exporter.shutdown()
    await ending


def current_trace() -> Trace | None:
    return _trace.get()


@contextmanager
def root_span(name: str, kind: SpanKind, traceparent: str | None = None, **attributes: Any) -> Iterator[Trace]:
    """Begin the work of one request or job: continue the caller's trace when it sent a valid one."""
    parent = _parse(traceparent)
    wanted = parent.sampled if parent else random.random() < _sample_ratio  # noqa: S311 - sampling, not a secret
    if not (wanted and _recording):
        own = Trace(parent.trace_id if parent else random.getrandbits(128) or 1, random.getrandbits(64) or 1, False)
        token = _trace.set(own)
        try:
            yield own
        finally:
            _trace.reset(token)
        return
    context = None
    if parent:
        remote = SpanContext(parent.trace_id, parent.span_id, True, TraceFlags(TraceFlags.SAMPLED))
        context = trace.set_span_in_context(NonRecordingSpan(remote))
    with _tracer.start_as_current_span(
        name, context=context, kind=kind, attributes=_masked(attributes), **WITHOUT_WORDS
    ) as active:
        identity = active.get_span_context()
        own = Trace(identity.trace_id, identity.span_id, True)
        token = _trace.set(own)
        try:
            yield own
        finally:
            _trace.reset(token)


@contextmanager
def span(name: str, kind: SpanKind = SpanKind.INTERNAL, **attributes: Any) -> Iterator[None]:
    """A step inside the current trace; free when the trace is not sampled."""
    here = _trace.get()
    if here is None or not here.sampled:
        yield
        return
    with _tracer.start_as_current_span(name, kind=kind, attributes=_masked(attributes), **WITHOUT_WORDS) as active:
        try:
            yield
        except Exception as error:
            active.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def record_statement(sql: str, started_ns: int) -> None:
    """A finished SQL statement as a span; parameters are never recorded, they may be personal data."""
    db_statements.inc()
    for listener in statement_listeners:
        listener(sql)
    here = _trace.get()
    if here is not None and here.sampled:
        done = _tracer.start_span(
            sql.split(None, 1)[0].upper() if sql else "SQL",
            kind=SpanKind.CLIENT,
            start_time=started_ns,
            attributes={"db.system.name": "postgresql", "db.query.text": sql[:2000]},
        )
        done.end()


measures: list[Callable[[Any], Awaitable[None]]] = []
"""What features ask their tables each time /metrics is read; called with the process's resources."""

statement_listeners: list[Any] = []
"""Callables that see the text of every statement; tests use it to EXPLAIN what the suite really ran."""


def rename(name: str) -> None:
    """Name the current span, when it is recorded, after something that was not known when it began."""
    here = _trace.get()
    if here is not None and here.sampled:
        trace.get_current_span().update_name(name)


def annotate(**attributes: Any) -> None:
    """Add attributes to the current span when it is recorded."""
    here = _trace.get()
    if here is not None and here.sampled:
        trace.get_current_span().set_attributes(_masked(attributes))


def _masked(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: _clean(value) for name, value in attributes.items()}


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, int | float):
        return masked_number(value)
    return [_clean(inner) for inner in value] if isinstance(value, list | tuple) else value


def _parse(traceparent: str | None) -> Trace | None:
    parts = (traceparent or "").split("-")
    if len(parts) != 4 or [len(part) for part in parts] != [2, 32, 16, 2]:
        return None
    try:
        trace_id, span_id, flags = int(parts[1], 16), int(parts[2], 16), int(parts[3], 16)
    except ValueError:
        return None
    return Trace(trace_id, span_id, bool(flags & 1)) if trace_id and span_id else None


async def watch_event_loop(interval: float = 0.5) -> None:
    """Measure how late the loop wakes up; a blocking call anywhere shows here first."""
    worst: list[float] = []
    while True:
        began = time.perf_counter()
        await asyncio.sleep(interval)
        lag = max(0.0, time.perf_counter() - began - interval)
        worst = [*worst[-119:], lag]
        loop_lag.set(lag)
        loop_lag_worst.set(max(worst))
