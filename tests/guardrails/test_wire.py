"""The head of a request: bounded in size and time, whatever trickles in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from infra.sandbox.ports import listen
from service.guardrails.wire import MOST_BYTES, BoundedHttp

REQUEST = b"GET /somewhere HTTP/1.1\r\nhost: x\r\n\r\n"


class Impatient(BoundedHttp):
    seconds = 0.3


@asynccontextmanager
async def serving(protocol: type[HttpToolsProtocol]) -> AsyncIterator[int]:
    with listen(0, "127.0.0.1") as socket:
        config = uvicorn.Config(PlainTextResponse("fine"), http=protocol, lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve([socket]))
        yield socket.getsockname()[1]
        server.should_exit = True
        await running


async def send(port: int, *parts: bytes, pause: float = 0.0, patience: float = 60) -> bytes:
    """What comes back until the server closes, and TimeoutError when it does not."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)
        async with asyncio.timeout(patience):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_requests_are_answered_one_after_the_other_on_one_connection() -> None:
    async with serving(Impatient) as port:
        answer = await send(port, REQUEST, REQUEST, REQUEST[:-2] + b"connection: close\r\n\r\n", pause=0.1)
    assert answer.count(b"200 OK") == 3


@pytest.mark.parametrize("head", [b"GET /" + b"a" * 2 * MOST_BYTES, REQUEST[:-2] + b"x: " + b"a" * 2 * MOST_BYTES])
@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
async def test_a_head_that_is_too_large_is_refused(head: bytes, end: bytes) -> None:
    async with serving(BoundedHttp) as port:
        assert (await send(port, head + end)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("parts", [(), (b"G",), (REQUEST, b"GET / HT")], ids=["silent", "half", "second request"])
async def test_a_head_that_does_not_come_is_not_waited_for(parts: tuple[bytes, ...]) -> None:
    async with serving(Impatient) as port:
        answer = await send(port, *parts)
    assert answer.count(b"200 OK") == len(parts) // 2


async def test_without_it_memory_grows_and_the_connection_stays() -> None:
    async with serving(HttpToolsProtocol) as port:
        with pytest.raises(TimeoutError):
            await send(port, b"GET /" + b"a" * 8 * MOST_BYTES, patience=2)
