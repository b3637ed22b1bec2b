"""What goes wrong with a business API: the same knobs for all three, and the answer that each of them makes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from pydantic import Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from infra.sandbox.knobs import Knobs, knob_routes
from infra.sandbox.pages import page, static_files
from infra.sandbox.ports import HOST
from infra.sandbox.standin import StandIn

HUGE_BYTES = 64 * 1024 * 1024
LOOK_SECONDS = 0.05
Endpoint = Callable[[Request], Awaitable[Response]]


class SourceKnobs(Knobs):
    """Every fault; all defaults are a healthy API."""

    latency: float = Field(0.0, ge=0, le=600, description="Seconds: how much longer each answer takes")
    failing: bool = Field(False, description="Answer 500 to everything")
    bad_key: bool = Field(False, description="Answer 401: the key was withdrawn")
    limited: bool = Field(False, description="Answer 429: asked too often")
    limited_for: int = Field(120, ge=1, le=86_400, description="Seconds: how long the limit is said to last")
    garbled: bool = Field(False, description="Answer 200 with JSON that breaks off in the middle")
    drip: bool = Field(False, description="Answer one byte a second, for ever")
    huge: bool = Field(False, description="Answer with 64 MB")
    outage: bool = Field(False, description="End every connection without an answer")
    only: str = Field("", description="What goes wrong does so only for paths or bodies that contain this; empty: all")


class CutOff(Response):
    """A connection that ends in the middle of the answer."""

    async def __call__(self, scope: object, receive: object, send: Callable[..., Awaitable[None]]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})


class BusinessApi(StandIn):
    """An API with faults. `asked` is what came in, oldest first, so that tests see how often we ask."""

    examples: tuple[tuple[str, str], ...] = ()
    """(what to type when connecting, what it is) for the page."""

    def __init__(self, port: int = 0, host: str = HOST) -> None:
        super().__init__(port, host)
        self.knobs = SourceKnobs()
        self.asked: list[str] = []

    def routes(self) -> list[Route]:
        raise NotImplementedError

    def bad_key(self) -> Response:
        raise NotImplementedError

    def limited(self, seconds: int) -> Response:
        raise NotImplementedError

    def app(self) -> Starlette:
        return Starlette(routes=[*self.routes(), Route("/", self._home), *knob_routes(self), static_files()])

    async def _home(self, request: Request) -> Response:
        recent = list(reversed(self.asked[-30:]))
        return page(request, "source_home.html", name=self.name, examples=self.examples, asked=recent)

    def faulty(self, endpoint: Endpoint) -> Endpoint:
        async def with_faults(request: Request) -> Response:
            what = f"{request.method} {request.url.path}?{request.url.query} {(await request.body()).decode()}".strip()
            self.asked.append(what)
            del self.asked[:-1_000]
            if self.knobs.only and self.knobs.only not in what:
                return await endpoint(request)
            knobs, ends = self.knobs, time.monotonic() + self.knobs.latency
            while self.knobs is knobs and time.monotonic() < ends:
                await asyncio.sleep(LOOK_SECONDS)  # an API that is well again holds nobody
            return self._fault() or await endpoint(request)

        return with_faults

    def _fault(self) -> Response | None:
        knobs = self.knobs
        if knobs.outage:
            return CutOff()
        if knobs.failing:
            return JSONResponse({"message": "Internal Server Error"}, 500)
        if knobs.bad_key:
            return self.bad_key()
        if knobs.limited:
            return self.limited(knobs.limited_for)
        if knobs.garbled:
            return Response(b'{"rates": {"2026-', media_type="application/json")
        if knobs.drip or knobs.huge:
            return StreamingResponse(self._drip() if knobs.drip else _flood(), media_type="application/json")
        return None

    async def _drip(self) -> AsyncIterator[bytes]:
        while self.knobs.drip:
            yield b" "
            await asyncio.sleep(1)


async def _flood() -> AsyncIterator[bytes]:
    for _ in range(HUGE_BYTES // 65_536):
        yield b" " * 65_536
