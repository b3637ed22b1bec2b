"""Somebody's webhook: keeps what it was sent, and answers as it is told."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import stripe
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from infra.sandbox.standin import StandIn


@dataclass(frozen=True)
class Received:
    """One delivery as it came over the wire."""

    body: bytes
    signature: str
    at: float

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    def is_signed_with(self, secret: str) -> bool:
        """As Stripe's own library judges it."""
        try:
            return bool(stripe.WebhookSignature.verify_header(self.body, self.signature, secret, 300))
        except stripe.SignatureVerificationError:
            return False


class Receiver(StandIn):
    """`url` is the webhook; `answers` are its next status codes (then 200), `hang` the seconds it takes."""

    name = "receiver"

    def __init__(self) -> None:
        super().__init__()
        self.received: list[Received] = []
        self.answers: deque[int] = deque()
        self.hang = 0.0
        self.open = 0
        self.most_open = 0

    @property
    def url(self) -> str:
        return f"{self.address}/hook"

    @property
    def types(self) -> list[str]:
        return [one.event["type"] for one in self.received]

    def __exit__(self, *error: Any) -> None:
        self.hang = 0.0
        super().__exit__(*error)

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/hook", self._hook, methods=["POST"])])

    async def _hook(self, request: Request) -> Response:
        body = await request.body()
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        self.received.append(Received(body, request.headers["Stripe-Signature"], time.time()))
        ends = time.monotonic() + self.hang
        while time.monotonic() < ends and self.hang:
            await asyncio.sleep(0.05)
        self.open -= 1
        status = self.answers.popleft() if self.answers else 200
        return PlainTextResponse(f"answer {status}", status, {"Location": "/elsewhere"} if 300 <= status < 400 else {})
