"""SendGrid as far as we use it: takes mail over the v3 API, shows it in the inbox, signs and posts its events.

Written from twilio.com/docs/sendgrid (mail send, its errors, the event webhook). Like the real one it knows no
idempotency key, keeps its own lists of addresses to spare, and answers 202 long before anything is delivered.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import orjson
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from infra.sandbox.knobs import Knobs, knob_routes
from infra.sandbox.mail import LINK, MailSink, Message
from infra.sandbox.pages import page, static_files
from infra.sandbox.ports import HOST
from infra.sandbox.standin import StandIn

API_KEY = "SG.ballast_sandbox"
MOST_BYTES = 30 * 1024 * 1024
PERSISTENCE = (0, 0.2, 1, 3)
"""Seconds between the tries of one delivery of events; the real one goes on for a day."""
_key = ec.derive_private_key(int.from_bytes(hashlib.sha256(b"ballast_sandbox").digest(), "big"), ec.SECP256R1())
PUBLIC_KEY = base64.b64encode(_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
LISTS = {"bounce": "Bounced Address", "spamreport": "Spam Reporting Address", "unsubscribe": "Unsubscribed Address"}
"""Event -> what is given as the reason when the next mail to the address is dropped."""
PATHS = {
    "suppression/bounces": "bounce",
    "suppression/spam_reports": "spamreport",
    "asm/suppressions/global": "unsubscribe",
}


class SendGridKnobs(Knobs):
    """What can go wrong with SendGrid."""

    latency: float = Field(0, ge=0, le=300, description="Seconds to wait before answering a message")
    status: int = Field(0, ge=0, le=599, description="Answer every message with this error, and do nothing; 0 accepts")
    lose_answer: bool = Field(False, description="Take the message, then answer 500: the sender cannot know")
    outage: bool = Field(False, description="Answer 503 to everything")
    bounce: bool = Field(False, description="Every receiver says that there is no such mailbox")
    defer: bool = Field(False, description="Every receiver says 'later' once before it takes the message")
    complain: bool = Field(False, description="Every receiver presses 'this is spam'")
    silent: bool = Field(False, description="Post no events")
    twice: bool = Field(False, description="Post every event twice, as at least once allows")


@dataclass(frozen=True, slots=True)
class Sent:
    """One message that was taken, with what its events bring back."""

    id: str
    to: str
    subject: str
    arguments: dict[str, str]
    categories: list[str]


def sign(body: bytes, timestamp: str) -> dict[str, str]:
    """The headers of one delivery of events."""
    signature = base64.b64encode(_key.sign(timestamp.encode() + body, ec.ECDSA(SHA256()))).decode()
    return {
        "content-type": "application/json",
        "x-twilio-email-event-webhook-signature": signature,
        "x-twilio-email-event-webhook-timestamp": timestamp,
    }


class SendGridStandIn(StandIn):
    """`inbox` shows what was taken; events go to `webhook_url` while that is set."""

    name = "SendGrid stand-in"

    def __init__(self, inbox: MailSink, port: int = 0, host: str = HOST, *, webhook_url: str = "") -> None:
        super().__init__(port, host)
        self.inbox, self.webhook_url = inbox, webhook_url
        self.knobs = SendGridKnobs()
        self.sent: deque[Sent] = deque(maxlen=200)
        self.requests: deque[dict[str, Any]] = deque(maxlen=200)
        self.spared: dict[str, str] = {}
        self.erased: set[str] = set()
        self.refused = 0
        self._ids = itertools.count(1_000_000)
        self._tasks: set[asyncio.Task[None]] = set()

    def app(self) -> Starlette:
        lists = [Route(f"/v3/{path}/{{address}}", self._forget, methods=["DELETE"]) for path in PATHS]
        return Starlette(
            routes=[
                Route("/", self._console),
                Route("/events/{id}/{event}", self._press, methods=["POST"]),
                Route("/v3/mail/send", self._send, methods=["POST"]),
                Route("/v3/scopes", self._scopes),
                *lists,
                Route("/v3/recipients/erasejob", self._erase, methods=["POST"]),
                Route("/v3/suppression/blocks/{address}", self._forget, methods=["DELETE"]),
                *knob_routes(self),
                static_files(),
            ]
        )

    def post(self, *events: dict[str, Any]) -> None:
        """Deliver events as SendGrid does: one signed array, tried again until it is taken."""
        task = asyncio.get_running_loop().create_task(self._deliver(orjson.dumps(events)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def event(self, sent: Sent, kind: str, **more: Any) -> dict[str, Any]:
        """One event about a message, as documented."""
        return {
            "email": sent.to,
            "timestamp": int(time.time()),
            "event": kind,
            "smtp-id": f"<{sent.id}@geopod-ismtpd>",
            "category": sent.categories,
            "sg_event_id": base64.urlsafe_b64encode(uuid4().bytes).rstrip(b"=").decode(),
            "sg_message_id": f"{sent.id}.recvd-sandbox",
            **sent.arguments,
            **more,
        }

    async def _deliver(self, body: bytes) -> None:
        async with httpx.AsyncClient(timeout=10, verify=False, trust_env=False) as client:  # noqa: S501 - our own machine
            for _ in range(2 if self.knobs.twice else 1):
                for pause in PERSISTENCE:
                    await asyncio.sleep(pause)
                    try:
                        headers = sign(body, str(int(time.time())))
                        answer = await client.post(self.webhook_url, content=body, headers=headers)
                    except httpx.HTTPError:
                        continue
                    if answer.is_success:
                        break
                    self.refused += 1

    async def _send(self, request: Request) -> Response:
        body = await request.body()
        await asyncio.sleep(self.knobs.latency)
        if refusal := self._refuse(request) or _wrong(body):
            return refusal
        given: dict[str, Any] = orjson.loads(body)
        self.requests.append(given)
        for one in given["personalizations"]:
            self._take(given, one)
        if self.knobs.lose_answer:
            return _errors(500, "Internal error")
        return Response(status_code=202, headers={"X-Message-Id": uuid4().hex[:22]})

    def _refuse(self, request: Request) -> Response | None:
        if self.knobs.outage:
            return _errors(503, "Service unavailable")
        if request.headers.get("authorization") != f"Bearer {API_KEY}":
            return _errors(401, "The provided authorization grant is invalid, expired, or revoked")
        if self.knobs.status:
            return _errors(self.knobs.status, "The sandbox was told to answer like this")
        return None

    def _take(self, given: dict[str, Any], one: dict[str, Any]) -> None:
        [to] = [each["email"] for each in one["to"]]
        number = next(self._ids)
        arguments = {**given.get("custom_args", {}), **one.get("custom_args", {})}
        sent = Sent(f"sg{number}", to, given["subject"], arguments, given.get("categories", []))
        self.sent.appendleft(sent)
        settings = given.get("mail_settings", {})
        bypass = settings.get("bypass_list_management", {}).get("enable", False)
        reason = self.spared.get(to.lower())
        if reason and not bypass:
            self._tell(self.event(sent, "dropped", reason=LISTS[reason]))
            return
        if self.knobs.bounce:
            self.spared[to.lower()] = "bounce"
            said = "550 5.1.1 The email account that you tried to reach does not exist"
            bounced = self.event(sent, "bounce", type="bounce", status="5.1.1", reason=said)
            self._tell(self.event(sent, "processed"), bounced)
            return
        self.inbox.messages.appendleft(_shown(number, given, to))
        events = [self.event(sent, "processed")]
        if self.knobs.defer:
            events.append(self.event(sent, "deferred", response="451 try again later", attempt="1"))
        events.append(self.event(sent, "delivered", response="250 OK"))
        if self.knobs.complain:
            self.spared[to.lower()] = "spamreport"
            events.append(self.event(sent, "spamreport"))
        self._tell(*events)

    def _tell(self, *events: dict[str, Any]) -> None:
        if self.webhook_url and not self.knobs.silent:
            self.post(*events)

    async def _forget(self, request: Request) -> Response:
        if refusal := self._refuse(request):
            return refusal
        known = self.spared.pop(request.path_params["address"].lower(), None)
        return Response(status_code=204) if known else _errors(404, "Not found")

    async def _erase(self, request: Request) -> Response:
        """Recipients' data: everything that was kept about these addresses goes; the answer comes before it has."""
        given = orjson.loads(await request.body())
        if refusal := self._refuse(request):
            return refusal
        wanted = {str(each).lower() for each in given.get("email_addresses", ())}
        if not wanted:
            return _errors(400, "email_addresses is required", "email_addresses")
        self.erased |= wanted
        self.sent = deque((one for one in self.sent if one.to.lower() not in wanted), maxlen=self.sent.maxlen)
        about = [one for one in self.requests if not any(each in orjson.dumps(one).decode().lower() for each in wanted)]
        self.requests = deque(about, maxlen=self.requests.maxlen)
        return JSONResponse({"job_id": uuid4().hex}, status_code=202)

    async def _scopes(self, request: Request) -> Response:
        return self._refuse(request) or JSONResponse({"scopes": ["mail.send", "suppression.delete"]})

    async def _console(self, request: Request) -> Response:
        """What was sent, with buttons for what a receiver may do about it."""
        return page(
            request, "sendgrid.html", sent=list(self.sent)[:50], spared=self.spared,
            faults=self.knobs != SendGridKnobs(), events=tuple(LISTS), inbox=self.inbox.address,
        )  # fmt: skip

    async def _press(self, request: Request) -> Response:
        wanted, kind = request.path_params["id"], request.path_params["event"]
        for sent in self.sent:
            if sent.id == wanted and kind in LISTS:
                self.spared[sent.to.lower()] = kind
                more = {"type": "bounce", "status": "5.1.1"} if kind == "bounce" else {}
                self._tell(self.event(sent, kind, **more))
        return RedirectResponse("/", status_code=303)


def _errors(status: int, message: str, field: str | None = None) -> Response:
    return JSONResponse({"errors": [{"message": message, "field": field, "help": None}]}, status_code=status)


def _wrong(body: bytes) -> Response | None:
    """What the real one refuses, in its words where they are documented."""
    if len(body) > MOST_BYTES:
        return _errors(413, "Payload too large")
    try:
        given = orjson.loads(body)
        people = given["personalizations"]
        contents, sender = given["content"], given["from"]["email"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return _errors(400, "Bad Request")
    if not people or any(not one.get("to") for one in people):
        return _errors(400, "The to array is required for all personalization objects.", "personalizations.0.to")
    for at, each in enumerate(one for person in people for one in person["to"]):
        if each.get("email", "").count("@") != 1 or any(part in each["email"] for part in ", \r\n"):
            return _errors(400, "Does not contain a valid address.", f"personalizations.0.to.{at}.email")
    if "@" not in sender:
        return _errors(400, "The from email does not contain a valid address.", "from.email")
    if not given.get("subject"):
        return _errors(400, "The subject is required.", "subject")
    if [one.get("type") for one in contents] != ["text/plain", "text/html"][: len(contents)] or not contents:
        return _errors(400, "If present, text/plain must be first, followed by text/html.", "content")
    arguments = [given.get("custom_args", {}), *(one.get("custom_args", {}) for one in people)]
    if any(not isinstance(value, str) for each in arguments for value in each.values()):
        return _errors(400, "Bad Request")
    return None


def _shown(number: int, given: dict[str, Any], to: str) -> Message:
    text, html = (given["content"][at]["value"] if at < len(given["content"]) else "" for at in (0, 1))
    return Message(
        id=number,
        received_at=datetime.now(UTC).isoformat(timespec="seconds"),
        sender=given["from"]["email"],
        to=[to],
        subject=given["subject"],
        text=text,
        html=html,
        links=list(dict.fromkeys(LINK.findall(text))),
        headers=[("To", to), *given.get("headers", {}).items(), ("X-Sent-Through", "SendGrid's stand-in")],
    )
