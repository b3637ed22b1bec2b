"""A Stripe that answers what it is told: for tests of the door to its API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import orjson
import pytest

from service.core.settings import Settings
from service.integrations.stripe.errors import (
    StripeAway,
    StripeFailed,
)

KEY = "sk_test_0123456789abcdef"


class Stripe:
    """A tiny Stripe: answers in turn what it was told (the last for ever), and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: list[bytes | None] = []
        self.seen: list[tuple[str, str, dict[str, str], str]] = []
        self.hang: asyncio.Event | None = None
        self.settings = Settings()

    def says(self, body: Any, status: int = 200, **headers: str) -> Stripe:
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        lines = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(raw)}", "connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.answers.append("\r\n".join(lines).encode() + b"\r\n\r\n" + raw)
        return self

    def error(self, status: int, headers: dict[str, str] | None = None, **fields: str) -> Stripe:
        return self.says({"error": fields}, status, **(headers or {}))

    def hangs_up(self, times: int = 1) -> Stripe:
        self.answers += [None] * times
        return self

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.seen.append((method, target, headers, body.decode()))
        if self.hang is not None:
            await self.hang.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is not None:
            writer.write(answer)
            await writer.drain()


async def away(asking: Awaitable[object]) -> tuple[str, bool, int]:
    with pytest.raises(StripeAway) as found:
        await asking
    return found.value.reason, found.value.sent, found.value.retry_after


async def refused(asking: Awaitable[object]) -> StripeFailed:
    with pytest.raises(StripeFailed) as found:
        await asking
    return found.value
