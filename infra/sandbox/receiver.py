"""A customer's server that takes our webhooks: verifies each as its owner would, and shows what arrived.

`POST /hooks` takes messages; `/` shows them, `/api/messages` is the same for tests, and the knobs make it misbehave.
In a test: `with Receiver() as receiver: ...`; it believes the secrets in `secrets`, or the file it was given.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from standardwebhooks import Webhook, WebhookVerificationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from infra.sandbox.knobs import Knobs, knob_routes
from infra.sandbox.pages import page, static_files
from infra.sandbox.ports import HOST
from infra.sandbox.standin import StandIn

KEPT = 500
ENDLESS = 3600.0
METADATA = "http://169.254.169.254/latest/meta-data/"


class ReceiverKnobs(Knobs):
    """What can go wrong with somebody's server."""

    status: int = Field(200, ge=200, le=599, description="Answer every message with this status")
    retry_after: int = Field(0, ge=0, le=100_000_000, description="Seconds in Retry-After; 0 leaves it out")
    hang: float = Field(0, ge=0, le=ENDLESS, description="Seconds before the answer begins")
    body: Literal["short", "drip", "huge"] = Field(
        "short", description="drip: a byte each 50 ms without end; huge: megabytes without end"
    )
    says: str = Field("", description="What the answer says instead of thanks")
    redirect: str = Field("", description=f"Send the caller elsewhere (302), say to {METADATA}")


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message, and whether its signature was ours."""

    number: int
    received_at: float
    message_id: str
    type: str
    verified: str
    body: str
    headers: dict[str, str]


class Receiver(StandIn):
    """`address`/hooks takes messages; `arrivals` (newest first) holds them."""

    name = "webhook receiver"

    def __init__(self, port: int = 0, host: str = HOST, *, secrets: Path | None = None) -> None:
        super().__init__(port, host)
        self.knobs = ReceiverKnobs()
        self.secrets: list[str] = []
        self.arrivals: deque[Arrival] = deque(maxlen=KEPT)
        self._file = secrets
        self._numbers = itertools.count(1)

    @property
    def url(self) -> str:
        return f"{self.address}/hooks"

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/", self._show),
                Route("/hooks", self._take, methods=["POST"]),
                Route("/clear", self._clear, methods=["POST"]),
                Route("/api/messages", self._api, methods=["GET", "DELETE"]),
                *knob_routes(self),
                static_files(),
            ]
        )

    def verify(self, body: bytes, headers: dict[str, str]) -> str:
        """By which secret a message is signed; empty when by none that is known here."""
        known = list(self.secrets)
        if self._file and self._file.exists():
            known += json.loads(self._file.read_text())
        for secret in known:
            try:
                Webhook(secret).verify(body, headers)
                return f"{secret[:12]}..."
            except WebhookVerificationError:
                continue
        return ""

    async def _take(self, request: Request) -> Response:
        body, headers = await request.body(), dict(request.headers)
        text = body.decode(errors="replace")
        try:
            kind = str(json.loads(text)["type"])
        except (ValueError, KeyError, TypeError):
            kind = "?"
        found = Arrival(
            next(self._numbers),
            time.time(),
            headers.get("webhook-id", ""),
            kind,
            self.verify(body, headers),
            text,
            headers,
        )
        self.arrivals.appendleft(found)
        knobs = self.knobs
        await asyncio.sleep(knobs.hang)
        more = {"retry-after": str(knobs.retry_after)} if knobs.retry_after else {}
        if knobs.redirect:
            return RedirectResponse(knobs.redirect, 302)
        if knobs.body != "short":
            return StreamingResponse(_endless(knobs.body), knobs.status, headers=more)
        said = "thank you" if found.verified else "taken, but nobody here knows the secret it is signed with"
        return Response(knobs.says or said, knobs.status, headers=more)

    async def _show(self, request: Request) -> Response:
        arrived = [(one, time.strftime("%H:%M:%S", time.gmtime(one.received_at))) for one in list(self.arrivals)]
        return page(request, "receiver.html", arrivals=arrived, faults=self.knobs != ReceiverKnobs())

    async def _clear(self, request: Request) -> Response:
        self.arrivals.clear()
        return RedirectResponse("/", status_code=303)

    async def _api(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.arrivals.clear()
        found: list[dict[str, Any]] = [asdict(one) for one in list(self.arrivals)]
        return JSONResponse({"messages": found})


async def _endless(kind: str) -> AsyncIterator[bytes]:
    until = time.monotonic() + ENDLESS
    while time.monotonic() < until:
        yield b"." if kind == "drip" else b"." * 65_536
        await asyncio.sleep(0.05 if kind == "drip" else 0)
