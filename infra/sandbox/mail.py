"""A mail server that delivers nothing and shows everything: SMTP in, an inbox in the browser, JSON for tests.

In a test: `with MailSink() as mail: ...`; as a process: `python -m infra.sandbox.mail`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import re
from collections import deque
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Annotated, Any

from aiosmtpd.smtp import SMTP, Envelope, Session
from pydantic import AfterValidator, Field
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from infra.sandbox import previews
from infra.sandbox.knobs import Knobs, knob_routes
from infra.sandbox.pages import FRAME_POLICY, page, static_files
from infra.sandbox.ports import HOST, listen
from infra.sandbox.standin import StandIn, run_until_told

KEPT = 500
LINK = re.compile(r"https?://[^\s<>\"']+[^\s<>\"'.,;:!?)\]]")


def _error_code(code: int) -> int:
    if code and not 400 <= code <= 599:
        raise ValueError("0 accepts; an error is 400 to 599")
    return code


class MailKnobs(Knobs):
    """What can go wrong with a mail server."""

    hang_up: bool = Field(False, description="Hang up on every connection, new or open")
    reply: Annotated[int, AfterValidator(_error_code)] = Field(
        0, description="Answer every message with this error: 4xx is temporary, 5xx final; 0 accepts"
    )
    lose_reply: bool = Field(
        False, description="Keep the message, then hang up before saying so: the sender tries again"
    )
    delay: float = Field(0, ge=0, le=300, description="Seconds to wait before answering a message")
    hold: str = Field("", description="Leave messages to this address unanswered until it is taken away here")


@dataclass(frozen=True, slots=True)
class Message:
    """One received mail, decoded."""

    id: int
    received_at: str
    sender: str
    to: list[str]
    subject: str
    text: str
    html: str
    links: list[str] = field(default_factory=list)
    headers: list[tuple[str, str]] = field(default_factory=list)


class MailSink(StandIn):
    """`smtp_url` takes mail, `messages` (newest first) holds it, `address` shows it; `held`: to whom one waits."""

    name = "mail sink"

    def __init__(self, port: int = 0, smtp_port: int = 0, host: str = HOST) -> None:
        super().__init__(port, host)
        self._smtp_socket = listen(smtp_port, host)
        self.smtp_port: int = self._smtp_socket.getsockname()[1]
        self.knobs = MailKnobs()
        self.messages: deque[Message] = deque(maxlen=KEPT)
        self.held: list[str] = []
        self._ids = itertools.count(1)

    @property
    def smtp_url(self) -> str:
        return f"smtp://{self.host}:{self.smtp_port}"

    def to(self, address: str) -> list[Message]:
        """Mails for one address, newest first."""
        return [message for message in list(self.messages) if address.lower() in map(str.lower, message.to)]

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        smtp = await loop.create_server(
            lambda: SMTP(self, hostname="sandbox", enable_SMTPUTF8=True, loop=loop), sock=self._smtp_socket
        )
        try:
            await super().serve()
        finally:
            smtp.close()

    # The hooks that aiosmtpd calls by name.

    async def handle_EHLO(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        if self.knobs.hang_up:
            _hang_up(server)
        return responses

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.knobs.hang_up:
            _hang_up(server)
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        await asyncio.sleep(self.knobs.delay)
        await self._hold(envelope.rcpt_tos)
        if self.knobs.reply:
            return f"{self.knobs.reply} the sandbox was told to refuse this message"
        self.messages.appendleft(_decode(next(self._ids), envelope))
        if self.knobs.lose_reply:
            _hang_up(server)
        return "250 kept"

    async def _hold(self, recipients: list[str]) -> None:
        if (address := self.knobs.hold) not in recipients:
            return
        self.held.append(address)
        try:
            while self.knobs.hold == address:
                await asyncio.sleep(0.02)
        finally:  # the sender may have hung up
            self.held.remove(address)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/", self._inbox),
                Route("/clear", self._clear, methods=["POST"]),
                Route("/messages/{id:int}", self._message),
                Route("/messages/{id:int}/html", self._html),
                Route("/api/messages", self._api, methods=["GET", "DELETE"]),
                Route("/templates", previews.listed),
                Route("/templates/html", previews.html),
                *knob_routes(self),
                static_files(),
            ]
        )

    async def _inbox(self, request: Request) -> Response:
        recipient = request.query_params.get("to", "")
        return page(
            request, "inbox.html", messages=self._chosen(recipient), to=recipient, faults=self.knobs != MailKnobs()
        )

    async def _clear(self, request: Request) -> Response:
        self.messages.clear()
        return RedirectResponse("/", status_code=303)

    async def _message(self, request: Request) -> Response:
        return page(request, "message.html", message=self._find(request))

    async def _html(self, request: Request) -> Response:
        body = f'<base target="_blank">{self._find(request).html}'
        return HTMLResponse(body, headers={"Content-Security-Policy": FRAME_POLICY, "Cache-Control": "no-store"})

    async def _api(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.messages.clear()
        return JSONResponse({"messages": [asdict(one) for one in self._chosen(request.query_params.get("to", ""))]})

    def _chosen(self, recipient: str) -> list[Message]:
        return self.to(recipient) if recipient else list(self.messages)

    def _find(self, request: Request) -> Message:
        for message in list(self.messages):
            if message.id == request.path_params["id"]:
                return message
        raise HTTPException(404, "No such message; the inbox keeps the last 500 until it stops.")


def _hang_up(server: SMTP) -> None:
    if isinstance(server.transport, asyncio.Transport):
        server.transport.abort()


def _decode(number: int, envelope: Envelope) -> Message:
    raw = envelope.content or b""
    parsed = message_from_bytes(raw if isinstance(raw, bytes) else raw.encode(), policy=policy.default)
    text, html = _body(parsed, "plain"), _body(parsed, "html")
    return Message(
        id=number,
        received_at=datetime.now(UTC).isoformat(timespec="seconds"),
        sender=envelope.mail_from or "",
        to=list(envelope.rcpt_tos),
        subject=str(parsed.get("Subject", "")),
        text=text,
        html=html,
        links=list(dict.fromkeys(LINK.findall(text))),
        headers=[(name, str(value)) for name, value in parsed.items()],
    )


def _body(message: EmailMessage, kind: str) -> str:
    part: Any = message.get_body((kind,))
    if part is None:
        return ""
    try:
        return str(part.get_content())
    except LookupError:  # a charset nobody knows
        return bytes(part.get_payload(decode=True)).decode(errors="replace")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m infra.sandbox.mail", description=__doc__)
    parser.add_argument("--host", default=HOST, help="address to listen on; 0.0.0.0 in a container")
    parser.add_argument("--port", type=int, default=8025, help="of the inbox")
    parser.add_argument("--smtp-port", type=int, default=1025)
    given = parser.parse_args()
    run_until_told(lambda: [MailSink(given.port, given.smtp_port, given.host)])


if __name__ == "__main__":
    main()
