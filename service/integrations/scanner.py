"""Asks a virus scanner about a file: the protocol of clamd (clamd(8), INSTREAM) over TCP.

Fails closed: no answer, a strange one or a late one is ScannerAway, and whoever asked keeps the file from everybody.
Production without a scanner is a choice that is spelled out: SCANNER_URL=none. Files then count on their inspection
alone, and their page says so.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from service.core.regions import everywhere
from service.core.settings import Settings
from service.guardrails.cards import mask
from service.guardrails.circuit_breaker import CircuitBreaker, CircuitOpen

REACH = everywhere("our own scanner, at home; it keeps nothing of what it reads")

DEADLINE = 30.0
CONNECT_SECONDS = 3.0
MOST_BYTES = 25 * 1024 * 1024
"""clamd's own StreamMaxLength, unless its operator says otherwise: beyond it clamd hangs up."""
LONGEST_ANSWER = 4_096
FOUND = re.compile(r"^stream: (.{1,200}) FOUND$")
NONE = "none"


class ScannerAway(Exception):
    """Nobody said whether the file is clean."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """`signature` names what was found; "" is clean."""

    signature: str = ""


class Scanner:
    """One per process; a resource."""

    def __init__(self, settings: Settings) -> None:
        self.enabled = settings.scanner_url != NONE
        parts = urlsplit(settings.scanner_url)
        if self.enabled and (parts.scheme != "tcp" or not parts.hostname):
            raise ValueError("SCANNER_URL must look like tcp://host:3310, or be none")
        self._parts = parts
        self._breaker = CircuitBreaker("scanner", failures=3, within=120.0, counts=(ScannerAway,))

    async def scan(self, parts: AsyncIterable[bytes], *, deadline: float = DEADLINE) -> Scanned:
        """Raises ScannerAway; never says clean without having heard it."""
        if not self.enabled:
            return Scanned()
        try:
            async with self._breaker:
                try:
                    async with asyncio.timeout(deadline):
                        answer = await self._ask(parts)
                except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
                    raise ScannerAway(f"the scanner did not answer ({type(error).__name__})") from error
                if answer == "stream: OK":
                    return Scanned()
                if found := FOUND.match(answer):
                    return Scanned(mask(found[1]))
                raise ScannerAway("the scanner gave an answer that nobody understands")
        except CircuitOpen as error:
            raise ScannerAway("the scanner has failed and is left alone for seconds") from error

    async def _ask(self, parts: AsyncIterable[bytes]) -> str:
        where = self._parts
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(where.hostname, where.port or 3310, limit=LONGEST_ANSWER)
        try:
            writer.write(b"zINSTREAM\0")
            sent = 0
            async for part in parts:
                sent += len(part)
                if sent > MOST_BYTES:
                    raise ValueError("more than the scanner takes")
                writer.write(len(part).to_bytes(4, "big") + part)
                await writer.drain()
            writer.write(bytes(4))
            await writer.drain()
            return (await reader.readuntil(b"\0")).rstrip(b"\0").decode("utf-8", "replace")
        finally:
            writer.close()
