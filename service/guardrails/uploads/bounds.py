"""A body that is read as it comes: counted, timed, and answered in words even when it is refused half-way."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from uuid import UUID

from starlette.types import Message, Receive, Scope, Send

from service.core.errors import BadRequest, PayloadTooLarge, RequestTimeout, TooManyRequests, Unavailable
from service.guardrails.uploads.policy import UploadPolicy

DRAIN_SECONDS = 2.0
DRAIN_BYTES = 64 * 1024 * 1024
STREAM = "stream"
under_way: Counter[tuple[str, UUID | None]] = Counter()
"""Uploads of this process by policy: of each person or key, and (None) of all of them."""


class Stream:
    """One upload's body; `receive` and `send` take the places of the server's."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, policy: UploadPolicy) -> None:
        self.policy = policy
        self._receive, self._send = receive, send
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        self.declared = int(declared[:18]) if declared.isdigit() else None
        self._began, self._waited, self._got, self._complete = 0.0, 0.0, 0, False
        self._places: tuple[tuple[str, UUID | None], ...] = ()

    def check(self) -> None:
        """Before the first byte: raises PayloadTooLarge for what says so itself."""
        if self.declared is not None and self.declared > self.policy.most_bytes:
            raise self._too_large()

    def take_place(self, who: UUID) -> None:
        """One of the few for files on their way, for somebody who was believed: strangers would take them all.

        Raises TooManyRequests when `who` has enough of them, Unavailable when all are taken.
        """
        everybody, own = places = (self.policy.name, None), (self.policy.name, who)
        if under_way[own] >= self.policy.each:
            raise TooManyRequests(f"You are sending {self.policy.each} files already.", retry_after=5)
        if under_way[everybody] >= self.policy.at_once:
            raise Unavailable("Too many files are being sent at the moment.", retry_after=5)
        self._places = places
        under_way.update(places)

    def give_back(self) -> None:
        """Whatever became of it; again and again does no harm."""
        places, self._places = self._places, ()
        for place in places:
            under_way[place] -= 1
            if not under_way[place]:
                del under_way[place]

    async def receive(self) -> Message:
        loop, policy = asyncio.get_running_loop(), self.policy
        asked = loop.time()
        self._began = self._began or asked
        left = self._began + policy.seconds - asked
        try:
            async with asyncio.timeout(min(left, policy.patience)):
                message = await self._receive()
        except TimeoutError as error:
            raise self._too_slow() from error
        if message["type"] != "http.request":
            raise BadRequest("The connection ended before the file was complete.")
        self._got += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        # Only what the sender took counts: while we are busy storing, nobody is slow.
        self._waited += loop.time() - asked
        if self._got > policy.most_bytes:
            raise self._too_large()
        if self._waited > policy.patience and self._got < self._waited * policy.slowest:
            raise self._too_slow()
        return message

    async def send(self, message: Message) -> None:
        """A refusal is held open until the sender has had the time to read it: closed at once, the rest of the body
        meets a reset connection, and a browser shows that instead of our sentence."""
        if self._complete or message["type"] == "http.response.start":
            if not self._complete:
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await self._send(message)
        elif message.get("more_body", False):
            await self._send(message)
        else:
            await self._send({**message, "more_body": True})
            self.give_back()
            await self._drain()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _drain(self) -> None:
        thrown_away = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while thrown_away < DRAIN_BYTES and (message := await self._receive()).get("more_body", False):
                    thrown_away += len(message["body"])

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"The file is larger than {self.policy.most_bytes // 1_000_000} MB.", mend="Send less.")

    def _too_slow(self) -> RequestTimeout:
        slowest, seconds = self.policy.slowest, self.policy.seconds
        return RequestTimeout(
            f"The file came too slowly: {slowest} bytes a second, within {seconds:g} s, is the least."
        )
