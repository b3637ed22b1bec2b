"""An OpenTelemetry collector (OTLP over HTTP, protobuf) that remembers the last traces it was sent.

In a test or a benchmark: `with Collector() as collector: ...`, with OTLP_ENDPOINT set to `collector.address`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.sandbox.standin import StandIn

REMEMBERED = 200


@dataclass(frozen=True, slots=True)
class Span:
    """What a test asks about; ids in hex, `parent` empty for the first span of a trace."""

    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, str]


class Collector(StandIn):
    """Takes every batch and looks into it only when asked, so that a benchmark pays nothing for it."""

    name = "OpenTelemetry collector"

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self._batches: deque[bytes] = deque(maxlen=REMEMBERED)

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/v1/traces", self._take, methods=["POST"])])

    async def _take(self, request: Request) -> Response:
        self._batches.append(await request.body())
        return Response(media_type="application/x-protobuf")

    def spans(self) -> list[Span]:
        """Every span of the remembered batches, in the order in which they came."""
        return [
            Span(
                span.name,
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                {pair.key: pair.value.string_value or str(pair.value.int_value) for pair in span.attributes},
            )
            for body in list(self._batches)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
