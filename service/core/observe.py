"""The outermost layer: one id, one trace, one log line and one measurement per request, errors included.

Pure ASGI: Starlette's BaseHTTPMiddleware costs more per layer than everything in this file.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import lru_cache

import structlog
from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.core import telemetry
from service.core.context import ANONYMOUS
from service.core.ids import new_id
from service.core.logging import get_logger
from service.core.masking import masked

log = get_logger()

REQUEST_ID = re.compile(r"^[A-Za-z0-9_-]{8,64}\Z")
QUIET = frozenset({"/livez", "/readyz", "/metrics"})
"""Probes: measured, not logged; they would be most of the log."""

FindAddress = Callable[[Scope], str]
NameRoute = Callable[[Scope], str]
"""The route's template with its prefix, never the path: ids in a label would make one time series per row, and a
token in a span's name would be a leak."""


class Observe:
    """Wraps the shielded application. `find_address` says who calls, trusting configured proxies only."""

    def __init__(
        self, app: ASGIApp, find_address: FindAddress, trusts: Callable[[Scope], bool], name_route: NameRoute
    ) -> None:
        self.app = app
        self.name_route = name_route
        self.find_address = find_address
        self.trusts = trusts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        state = scope.setdefault("state", {})
        sent_id, traceparent = self._from_upstream(scope)
        request_id = sent_id or new_id().hex
        state["request_id"], state["address"] = request_id, self.find_address(scope)
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        method = scope["method"]
        with (
            # Nobody, until a context knows better: the line of a refused request says so, too.
            structlog.contextvars.bound_contextvars(request_id=request_id, actor=str(ANONYMOUS), organization=""),
            telemetry.root_span(method, SpanKind.SERVER, traceparent),
        ):
            try:
                await self.app(scope, receive, send_with_id)
            except Exception:
                # The client has its 500 with the request id by now; the reason belongs here and nowhere else.
                log.exception("request failed", route=self.name_route(scope))
            finally:
                self._record(scope, method, status, time.perf_counter() - began)

    def _from_upstream(self, scope: Scope) -> tuple[str | None, str | None]:
        """Request id and trace of a trusted proxy; a stranger must not choose what our logs are searched by."""
        if not self.trusts(scope):
            return None, None
        headers = dict(scope["headers"])
        sent = headers.get(b"x-request-id", b"").decode("latin-1")
        trace = headers.get(b"traceparent", b"").decode("latin-1")
        # Many a proxy hands on what its client chose; both are written down in clear.
        return (sent if REQUEST_ID.match(sent) and masked(sent) == sent else None), masked(trace)

    def _record(self, scope: Scope, method: str, status: int, seconds: float) -> None:
        route = self.name_route(scope)
        known = method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "OTHER"
        requests, duration = _meters(known, route, status)
        requests.inc()
        duration.observe(seconds)
        telemetry.rename(f"{known} {route}")
        telemetry.annotate(**{"http.route": route, "http.response.status_code": status, "http.request.method": known})
        if scope["path"] not in QUIET:
            level = log.error if status >= 500 else log.info
            level("request", method=known, route=route, status=status, duration_ms=round(seconds * 1000, 2))


@lru_cache(maxsize=4096)
def _meters(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return telemetry.http_requests.labels(method, route, str(status)), telemetry.http_duration.labels(method, route)
