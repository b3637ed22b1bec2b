"""A virus scanner that speaks clamd's protocol and knows one virus: the EICAR test file (eicar.org).

`zPING` and `zINSTREAM`, as clamd(8) has them, on one port; its faults are on another, like every stand-in's.
"""

from __future__ import annotations

import asyncio

from pydantic import Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from infra.sandbox.knobs import Knobs, knob_routes
from infra.sandbox.ports import HOST, listen
from infra.sandbox.standin import StandIn

MOST = 25 * 1024 * 1024
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
"""In two halves, or a scanner on a developer's machine takes this file away."""


class ClamdKnobs(Knobs):
    """What can go wrong with a scanner."""

    down: bool = Field(False, description="Hang up on every connection")
    hang: bool = Field(False, description="Take the file and never answer")
    garbled: bool = Field(False, description="Answer with something that is not clamd's")
    signature: str = Field("Win.Test.EICAR_HDB-1", description="What it calls the one virus that it knows")
    delay: float = Field(0, ge=0, le=300, description="Seconds before each answer")


class Clamd(StandIn):
    """`scanner_url` is for SCANNER_URL; `scanned` counts the files."""

    name = "virus scanner"

    def __init__(self, port: int = 0, clamd_port: int = 0, host: str = HOST) -> None:
        super().__init__(port, host)
        self._clamd_socket = listen(clamd_port, host)
        self.clamd_port: int = self._clamd_socket.getsockname()[1]
        self.knobs = ClamdKnobs()
        self.scanned = 0

    @property
    def scanner_url(self) -> str:
        return f"tcp://{self.host}:{self.clamd_port}"

    def app(self) -> ASGIApp:
        async def home(request: Request) -> Response:
            return PlainTextResponse(f"clamd on port {self.clamd_port}; what can go wrong with it is at /faults\n")

        return Starlette(routes=[Route("/", home), *knob_routes(self)])

    async def serve(self) -> None:
        server = await asyncio.start_server(self._talk, sock=self._clamd_socket)
        try:
            await super().serve()
        finally:
            server.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not self.knobs.down:
                answer = await self._answer(await reader.readuntil(b"\0"), reader)
                if self.knobs.hang:
                    await asyncio.sleep(3600)
                await asyncio.sleep(self.knobs.delay)
                writer.write((b"\x00\xff" * 20 if self.knobs.garbled else answer) + b"\0")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # whoever asked went away
        finally:
            writer.close()

    async def _answer(self, command: bytes, reader: asyncio.StreamReader) -> bytes:
        if command == b"zPING\0":
            return b"PONG"
        if command != b"zINSTREAM\0":
            return b"UNKNOWN COMMAND"
        content = bytearray()
        while size := int.from_bytes(await reader.readexactly(4), "big"):
            if len(content) + size > MOST:
                return b"INSTREAM size limit exceeded. ERROR"
            content += await reader.readexactly(size)
        self.scanned += 1
        return f"stream: {self.knobs.signature} FOUND".encode() if EICAR in content else b"stream: OK"
