"""A closed-loop HTTP/1.1 load generator on raw sockets: cheap enough that the server is the limit, not this."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, repeat

COUNTER = b"0000000"
"""Where a body has this, every request has another number: a write that changes nothing is not a write."""


@dataclass(frozen=True)
class Call:
    """One request, ready to send; `headers` without Host and Content-Length."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    expect: int = 200

    def encode(self, host: str) -> bytes:
        lines = [f"{self.method} {self.path} HTTP/1.1", f"host: {host}", "accept: application/json"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.method != "GET":
            lines.append(f"content-length: {len(self.body)}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + self.body


@dataclass
class Measured:
    """What one run of one call against one server showed."""

    requests: int
    seconds: float
    latencies: list[float]
    cpu_seconds: float = 0.0
    statements: float = 0.0
    body_bytes: int = 0

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000

    @property
    def cpu_us(self) -> float:
        return self.cpu_seconds / self.requests * 1e6


class WrongAnswer(Exception):
    """The server answered with something else than expected: the figure would mean nothing."""


async def hammer(host: str, port: int, call: Call, *, connections: int, seconds: float) -> Measured:
    """Send `call` over some keep-alive connections for some seconds. Raises WrongAnswer."""
    wire = call.encode(f"{host}:{port}")
    wires = (wire.replace(COUNTER, b"%07d" % number) for number in count(1)) if COUNTER in wire else repeat(wire)
    return await drive(host, port, wires, connections=connections, seconds=seconds, expect=call.expect)


async def drive(
    host: str, port: int, wires: Iterator[bytes], *, connections: int, seconds: float, expect: int = 200,
    rate: float | None = None,
) -> Measured:  # fmt: skip
    """Send one request after the other, as fast as answers come, or `rate` a second. Raises WrongAnswer.

    Paced, an answer's time counts from the moment when the request was due: who is late must not look fast.
    """
    latencies: list[float] = []
    began = time.perf_counter()
    until = began + seconds
    turns = ((wire, began + number / rate if rate else None) for number, wire in enumerate(wires))
    sizes = await asyncio.gather(
        *(_connection(host, port, turns, expect, until, latencies) for _ in range(connections))
    )
    return Measured(len(latencies), time.perf_counter() - began, latencies, body_bytes=max(sizes))


async def _connection(
    host: str, port: int, turns: Iterator[tuple[bytes, float | None]], expect: int, until: float, latencies: list[float]
) -> int:
    """Requests until the time is over, but one at least, however late the connection came."""
    reader, writer = await asyncio.open_connection(host, port, limit=2**20)
    size = 0
    try:
        for wire, due in turns:
            sent = time.perf_counter()
            if due is not None:
                await asyncio.sleep(due - sent)
                sent = due
            writer.write(wire)
            status, size = await _answer(reader)
            if status != expect:
                raise WrongAnswer(f"{wire.split(b' HTTP')[0].decode()}: {status} instead of {expect}")
            latencies.append(time.perf_counter() - sent)
            if time.perf_counter() >= until:
                break
    finally:
        writer.close()
    return size


async def _answer(reader: asyncio.StreamReader) -> tuple[int, int]:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    at = head.lower().find(b"content-length: ")
    length = int(head[at + 16 : head.find(b"\r\n", at)]) if at >= 0 else 0
    if length:
        await reader.readexactly(length)
    return status, length
