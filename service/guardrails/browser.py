"""What every browser (and attacker) meets first: host check, bounded bodies, strict JSON, headers on EVERY answer.

Protects from: Host header attacks, slow and oversized bodies, JSON that crashes parsers, clickjacking, injected
scripts (ASVS 3.4, 3.5; OWASP CSRF cheat sheet). `Shield` wraps the FINISHED application, so errors, redirects and
refusals carry the headers too: handlers that run outside the middleware stack lose them.

How to use: nothing; `create_app` wraps the app, and every context (guardrails.contexts) calls `refuse_forgery`.
Forms carry `csrf_token(request)`, htmx and scripts send it as `X-CSRF-Token`. Limits: TLS ends at the proxy. What
is not HTTP never reaches us: uvicorn answers it with a bare 400, as it does headers beyond its own limits on size and
count; and cutting connections that send nothing is the proxy's work.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.core.context import SAFE_METHODS, Login
from service.core.crypto import keyed_hash, new_token
from service.core.errors import (
    BadRequest,
    Forbidden,
    RequestTimeout,
    ServiceError,
    Unavailable,
)
from service.core.multipart import arriving
from service.core.observe import QUIET
from service.core.settings import Settings
from service.guardrails import cards, deprecation, gate
from service.guardrails.strict_json import MOST_JSON, Larger, check_media, too_large
from service.guardrails.uploads.bounds import STREAM, Stream
from service.guardrails.uploads.policy import UploadPolicy

SIGNED_PREFIX = "/webhooks/"
"""Bodies under a signature stay bytes: checked as JSON first, each would cost more than its hash, junk included."""
DOWNLOAD_PREFIX, DOWNLOAD_SECONDS = "/downloads/", 900.0
"""A file on a slow line takes longer than a page; its bytes come from the store, so nothing else waits for it."""
MOST_AT_ONCE = 1_000
"""Requests of one process; more would only wait for each other. uvicorn's own limit answers without our headers."""
PORT = re.compile(rb":\d{1,5}$")
"""Digits and no more: `ours:80.attacker.example` is a host of theirs in whatever is made from the header."""
CSRF_FIELD = "csrf"
CSRF_HEADER = "x-csrf-token"

Refuse = Callable[[Scope, ServiceError], ASGIApp]
"""Renders a refusal as the API's problem or as a page; given by the composition root."""


def content_policy(settings: Settings, *forms: str) -> str:
    """What a page may load (nothing inline: an injected script or style does not run), and where its forms may lead.

    form-action also governs the redirect after a POST: the identity provider must be listed or login breaks, and a page
    with a form that ends elsewhere names those origins as `forms`, for itself alone.
    """
    targets = " ".join(["'self'", *([_origin(settings.oidc_issuer)] if settings.oidc_issuer else []), *forms])
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        f"connect-src 'self'; manifest-src 'self'; form-action {targets}; frame-ancestors 'none'; base-uri 'none'; "
        "require-trusted-types-for 'script'; trusted-types htmx"
    )


def security_headers(settings: Settings) -> list[tuple[bytes, bytes]]:
    """The headers of every answer that has none of its own by that name."""
    headers = {
        "content-security-policy": content_policy(settings),
        "x-content-type-options": "nosniff",
        "referrer-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        "x-frame-options": "DENY",
        "cache-control": "no-store",
    }
    if settings.cookies_are_secure:
        headers["strict-transport-security"] = "max-age=63072000; includeSubDomains"
    return [(name.encode(), value.encode()) for name, value in headers.items()]


class Shield:
    """Outermost but one: refuses what no handler should see, and stamps the headers on whatever comes back."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        refuse: Refuse,
        schema_version: str = "",
        larger: Larger = (),
        streams: Mapping[tuple[str, str], UploadPolicy] | None = None,
    ) -> None:
        self.app = app
        self.streams = streams or {}
        self.refuse = refuse
        self.hosts = frozenset(host.lower().encode() for host in settings.allowed_hosts)
        # A client that was written for another schema sees it in any answer, instead of corrupting data silently.
        self.headers = [*security_headers(settings), (b"schema-version", schema_version.encode())]
        self.max_body = settings.max_body_bytes
        self.larger = larger
        self.body_timeout = settings.body_timeout_seconds
        self.request_timeout = settings.request_timeout_seconds
        self.most_at_once = MOST_AT_ONCE
        self.under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                scope["state"]["answered"] = True
                headers = message["headers"] = list(message.get("headers", ()))
                present = {name.lower() for name, _ in headers}
                headers.extend(pair for pair in self.headers if pair[0] not in present)
                headers.extend(gate.headers(scope))
                headers.extend(deprecation.headers(scope))
                if "csrf_cookie" in scope["state"]:
                    headers.append((b"set-cookie", scope["state"]["csrf_cookie"]))
            await send(message)

        self.under_way += 1
        try:
            await self._answer(scope, receive, send_with_headers)
        finally:
            self.under_way -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        stream: Stream | None = None
        seconds = DOWNLOAD_SECONDS if scope["path"].startswith(DOWNLOAD_PREFIX) else self.request_timeout
        try:
            # Probes and scrapers call by address, and these answers use no host; who is busy is not dead either.
            if scope["path"] not in QUIET:
                if self.under_way > self.most_at_once:
                    raise Unavailable("Too many requests are under way.", retry_after=2)
                self._check_host(scope["headers"])
                cards.refuse_address(scope)
                # PostgreSQL stores no NUL, and no log line should carry an escape sequence of somebody's terminal.
                if not scope["path"].isprintable():
                    raise BadRequest(
                        "The address has characters that no address of ours has.", mend="Check the address."
                    )
                if policy := self.streams.get((scope["method"], scope["path"])):
                    stream = Stream(scope, receive, send, policy)
                    receive, send, seconds = stream.receive, stream.send, seconds + policy.seconds
                    stream.check()
                    scope["state"][STREAM] = stream
                # Not for probes: nobody counts those, so their bodies must not be kept.
                elif scope["method"] not in SAFE_METHODS:
                    receive = await self._buffer_body(scope, receive)
        except ServiceError as error:
            await self.refuse(scope, error)(scope, receive, send)
            return
        try:
            async with asyncio.timeout(seconds):
                await self.app(scope, receive, send)
        except TimeoutError:
            if scope["state"].get("answered"):
                raise
            slow = Unavailable("Answering took too long and was stopped.", mend="Ask for less, or try again later.")
            await self.refuse(scope, slow)(scope, receive, send)
        finally:
            if stream is not None:
                stream.give_back()

    def _check_host(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        hosts = [value for name, value in headers if name == b"host"]
        found = PORT.sub(b"", hosts[0]).lower() if len(hosts) == 1 else b""
        if found not in self.hosts:
            raise BadRequest("This host name is not served here.", mend="Use the address you were given.")

    async def _buffer_body(self, scope: Scope, receive: Receive) -> Receive:
        """Read the whole body before any handler runs: a slow sender never holds a database connection."""
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        most, most_json = self._limits(scope["path"])
        if declared.isdigit() and int(declared) > most:
            raise too_large(most)
        body = bytearray()
        try:
            async with asyncio.timeout(self.body_timeout):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise BadRequest("The connection ended before the body was complete.")
                    body += message.get("body", b"")
                    if len(body) > most:
                        raise too_large(most)
                    more = message.get("more_body", False)
        except TimeoutError as error:
            raise RequestTimeout(f"The body did not arrive within {self.body_timeout:g} seconds.") from error
        if body and not scope["path"].startswith(SIGNED_PREFIX):
            check_media(scope, bytes(body), most_json)
        return _replay(bytes(body), receive)

    def _limits(self, path: str) -> tuple[int, int]:
        """How long a body may be, and how long where it is JSON."""
        most = next((most for pattern, most in self.larger if pattern.match(path)), 0)
        return max(most, self.max_body), max(most, MOST_JSON)


def _replay(body: bytes, receive: Receive) -> Receive:
    """The buffered body once, then the real channel: waiting for a disconnect must still work."""
    sent = False

    async def replayed() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def csrf_token(request: Request, settings: Settings) -> str:
    """The token a form on this page must send back: bound to the session, or to a cookie before login."""
    state = request.scope["state"]
    login: Login | None = state.get("login")
    if login is not None:
        return login.csrf
    name = csrf_cookie_name(settings)
    seed = request.cookies.get(name) or state.get("csrf_seed")
    if not seed:
        seed = state["csrf_seed"] = new_token()
        secure = "; Secure" if settings.cookies_are_secure else ""
        state["csrf_cookie"] = f"{name}={seed}; Path=/; HttpOnly; SameSite=Lax{secure}".encode()
    return keyed_hash("csrf", seed).hex()


def csrf_cookie_name(settings: Settings) -> str:
    """`__Host-` pins the cookie to this host and path, but browsers accept it over https only."""
    return "__Host-csrf" if settings.cookies_are_secure else "csrf"


async def refuse_forgery(request: Request, login: Login | None, settings: Settings) -> None:
    """Raise Forbidden for a change that another site made the browser send (CSRF; ASVS 3.5.1).

    Two walls: what the browser itself says about the origin, then a token that only our pages know.
    """
    if request.method in SAFE_METHODS:
        return
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    foreign = site not in ("same-origin", "none") if site else origin not in (None, _origin(settings.base_url))
    if foreign:
        raise Forbidden("This request came from another site.", mend="Open the page here and try again.")
    sent = request.headers.get(CSRF_HEADER)
    if STREAM in request.scope["state"]:
        # Also with the token in a header: whoever sends the fields slowly must not hold a connection meanwhile.
        incoming = await arriving(request)
        sent = incoming.fields.get(CSRF_FIELD) if sent is None else sent
    if sent is None and request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        form = await request.form(max_files=0, max_fields=200)
        field = form.get(CSRF_FIELD)
        sent = field if isinstance(field, str) else None
    seed = request.cookies.get(csrf_cookie_name(settings), "")
    expected = login.csrf if login is not None else keyed_hash("csrf", seed).hex() if seed else ""
    if not expected or not hmac.compare_digest((sent or "").encode("utf-8", "replace"), expected.encode()):
        raise Forbidden("The form is out of date.", mend="Reload the page and send the form again.")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
