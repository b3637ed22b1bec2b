"""A body without end, without length or without hurry: over a socket, through the whole shield."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from uuid import UUID

import httpx
import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from infra.sandbox.ports import free_port
from service.core.errors import ServiceError
from service.core.multipart import arriving
from service.core.settings import Settings
from service.features.files.models import KINDS
from service.guardrails.browser import Shield
from service.guardrails.uploads.bounds import STREAM, Stream, under_way
from service.guardrails.uploads.policy import UploadPolicy

SMALL = UploadPolicy(
    "small", {"txt": KINDS["txt"]}, most_bytes=3_000_000, seconds=2.0, slowest=1_024, patience=0.3, at_once=2, each=1
)
HEAD = b"POST /files HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n%s\r\n\r\n"
FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """A route that reads its file, as every upload does, for whoever it is told; and one beside it."""
    answer: Response = PlainTextResponse("quick")
    if scope["path"] == "/files":
        try:
            if STREAM in scope["state"]:
                who = dict(scope["headers"]).get(b"who", b"1")
                scope["state"][STREAM].take_place(UUID(int=int(who)))
            incoming = await arriving(Request(scope, receive))
            size = 0
            async for part in incoming.parts(partial(SMALL.check_beginning, "txt")):
                size += len(part)
            answer = PlainTextResponse(str(size))
        except ServiceError as error:
            answer = PlainTextResponse(error.detail, error.status)
    await answer(scope, receive, send)


@pytest.fixture
async def address(request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, int]]:
    guarded = getattr(request, "param", True)
    streams = {("POST", "/files"): SMALL} if guarded else {}
    shield = Shield(
        app,
        Settings(allowed_hosts="127.0.0.1", max_body_bytes=10_000_000_000 if not guarded else 1_048_576),
        lambda scope, error: PlainTextResponse(error.detail, error.status),
        streams=streams,
    )

    async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
        await shield({**scope, "state": {}}, receive, send)

    server = uvicorn.Server(uvicorn.Config(with_state, port=free_port(), lifespan="off", log_level="critical"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield "127.0.0.1", server.config.port
    server.should_exit = True
    await task


async def talk(address: tuple[str, int], head: bytes, *parts: bytes, pause: float = 0.0, end: bool = False) -> bytes:
    """Send until the other side has had enough; what it said."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(HEAD % head)
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)
            if reader._buffer:  # type: ignore[attr-defined]
                break
    except ConnectionError:
        pass
    said = await reader.read(4_096)
    writer.close()
    return said


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


async def test_an_ordinary_upload_arrives_whole(address: tuple[str, int]) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(
            f"http://{address[0]}:{address[1]}/files", data={"csrf": "x"}, files={"file": ("a.txt", b"x" * 2_500_000)}
        )
    assert (answer.status_code, answer.text) == (200, "2500000")


async def test_two_gigabytes_are_refused_at_once(address: tuple[str, int]) -> None:
    """Before a byte of it; the sentence reaches a sender who goes on sending."""
    said = await talk(address, b"Content-Length: 2000000000", *[bytes(65_536)] * 200)
    assert b"413" in said.partition(b"\r\n")[0]
    assert b"larger than 3 MB" in said
    assert b"connection: close" in said


async def test_a_body_without_a_length_is_counted(address: tuple[str, int]) -> None:
    tracemalloc.start()
    parts = [chunk(FILE), *[chunk(b"x" * 65_536)] * 200]
    said = await talk(address, b"Transfer-Encoding: chunked", *parts)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert b"413" in said.partition(b"\r\n")[0]
    assert most < 12_000_000, "it was counted while it came, not when it was there"


async def test_a_byte_at_a_time_is_cut_off_and_slows_nobody(address: tuple[str, int]) -> None:
    began = time.perf_counter()
    slow = asyncio.create_task(talk(address, b"Content-Length: 100000", FILE, *[b"x"] * 1_000, pause=0.05))
    async with httpx.AsyncClient() as client:
        other = await client.get(f"http://{address[0]}:{address[1]}/other")
        assert other.text == "quick"
        assert not slow.done()
    assert b"408" in (await slow).partition(b"\r\n")[0]
    assert time.perf_counter() - began < SMALL.seconds + 20, "a thousand bytes need fifty seconds"


def head_of(who: int) -> bytes:
    return b"Content-Length: 100000\r\nWho: %d" % who


async def test_one_too_many_waits_outside(address: tuple[str, int]) -> None:
    """All places are taken, or one's own are: the others' may still be free."""
    first = asyncio.create_task(talk(address, head_of(1), FILE, *[b"x" * 200] * 4, pause=0.1))
    while under_way[SMALL.name, None] < 1:
        await asyncio.sleep(0.01)
    assert b"429" in (await talk(address, head_of(1), FILE)).partition(b"\r\n")[0]
    second = asyncio.create_task(talk(address, head_of(2), FILE, *[b"x" * 200] * 4, pause=0.1))
    while under_way[SMALL.name, None] < 2:
        await asyncio.sleep(0.01)
    assert b"503" in (await talk(address, head_of(3), FILE)).partition(b"\r\n")[0]
    await asyncio.gather(first, second)
    assert not under_way


async def test_a_place_is_free_before_the_rest_of_a_refused_file_is_thrown_away() -> None:
    """Else eight refusals, each held open for two seconds, keep everybody's files out."""
    seen: list[Any] = []

    async def receive() -> Message:
        seen.append(dict(under_way))
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Message) -> None: ...

    stream = Stream({"headers": []}, receive, send, SMALL)
    stream.take_place(UUID(int=1))
    assert under_way
    await stream.send({"type": "http.response.start", "status": 415})
    await stream.send({"type": "http.response.body", "body": b"refused"})
    assert seen == [{}]


@pytest.mark.parametrize("address", [False], indirect=True, ids=["bites"])
async def test_without_the_bounds_the_whole_body_is_taken(address: tuple[str, int]) -> None:
    """The same body over the same cap: buffered by the ordinary way in, whole, before anybody asks what it is."""
    body = FILE + b"x" * 4_000_000 + b"\r\n--b--\r\n"
    said = await talk(address, b"Content-Length: %d" % len(body), body)
    assert said.endswith(b"4000000")
