"""Request line and headers, bounded in size and in time, before anything else of ours runs.

Protects from: one header without an end, which would grow in memory, and the connection that sends a byte a minute
(OWASP DoS cheat sheet; ASVS 15.2.2). uvicorn's own bound holds for its h11 parser only, and we run on httptools.
How to use: nothing; `python -m service serve` gives it to uvicorn. Limits: bodies are guardrails.browser's business;
how many connections one address may open is the proxy's.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_BYTES = 32 * 1024
SECONDS = 10.0


class BoundedHttp(HttpToolsProtocol):
    """One connection. The clock runs from its first byte, or its opening, until the headers are complete."""

    seconds: ClassVar[float] = SECONDS
    _clock: asyncio.TimerHandle | None = None
    _unfinished = 0
    """Bytes of a head that is not complete yet."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._clock = self.loop.call_later(self.seconds, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._clock is not None and not self.transport.is_closing():
            self._unfinished += len(data)
            if self._unfinished > MOST_BYTES:
                self.send_400_response("Request line and headers are too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._clock is None:
            self._clock = self.loop.call_later(self.seconds, self.transport.close)

    def on_headers_complete(self) -> None:
        self._stop_clock()
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MOST_BYTES:
            raise ValueError("request line and headers are too large")  # the parser reports it, uvicorn answers 400
        super().on_headers_complete()

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
        self._clock, self._unfinished = None, 0
