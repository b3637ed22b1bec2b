"""Answers without a template: redirects that stay on this site, and "nothing has changed since you last asked"."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from service.core.settings import Settings
from service.integrations.stripe.addresses import is_stripe_page
from service.web.assets import assets
from service.web.flash import carry_messages

HOME = "/dashboard"
"""Where whoever has just logged in, or joined an organization, begins: a page of the sample feature."""


class After(Response):
    """An answer that is worked out after the request's transaction has committed and its connection is back.

    For what has to reach the outside before the person gets an answer: a Stripe call that hangs for ten seconds must
    hold neither a transaction nor one of ten connections. `work` opens units of work of its own.
    """

    def __init__(self, work: Callable[[], Awaitable[Response]]) -> None:
        super().__init__()
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._work()
        await answer(scope, receive, send)


def is_fragment(request: Request) -> bool:
    """htmx asks for a part of a page; everything else gets the whole page."""
    return request.headers.get("hx-request") == "true"


def redirect(request: Request, to: str) -> Response:
    """303 to a path of this site (after a POST), or its htmx equivalent; raises ValueError for any other target.

    Open redirects are refused here, once (OWASP ASVS 3.7.2): pass `next` parameters through `safe_path` first.
    """
    if safe_path(to, default="") != to:
        raise ValueError("redirects go to a path of this site; for another site answer with a link")
    response: Response
    if is_fragment(request):
        # fetch() would follow a 303 by itself and swap a whole page into a corner of this one.
        response = Response(status_code=204, headers={"HX-Redirect": to, "Vary": "HX-Request"})
    else:
        response = RedirectResponse(to, status_code=303, headers={"Vary": "HX-Request"})
    carry_messages(request, response)
    return response


def to_stripe(request: Request, settings: Settings, address: str) -> Response:
    """303 to one of the pages where people pay at Stripe; raises ValueError for any other target.

    The page with the form before it must allow that: `content_policy(settings, *stripe_origins(settings))`.
    """
    if not is_stripe_page(settings, address):
        raise ValueError("this is none of Stripe's pages")
    response = RedirectResponse(address, status_code=303)
    carry_messages(request, response)
    return response


def safe_path(candidate: str | None, default: str = "/") -> str:
    """The candidate if it is a path on this very site, else the default; browsers read `/\\evil` as `//evil`."""
    if not candidate or not candidate.startswith("/") or candidate[1:2] in ("/", "\\"):
        return default
    return candidate if candidate.isprintable() and candidate.isascii() and "\\" not in candidate else default


def etag(request: Request, *parts: object) -> str:
    """A weak validator over what the answer depends on; a new release changes it, so no old page survives a deploy.

    The same for a page and its fragment, so that the first poll of a fresh page can already be a 304.
    """
    state = getattr(request.app.state, "schema_version", "")
    text = "\0".join(str(part) for part in (assets().version, state, *parts))
    return f'W/"{hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=12).hexdigest()}"'


def not_modified(request: Request, tag: str, *, poll_seconds: int | None = None) -> Response | None:
    """A 304 for a poll that already has this version (RFC 9110 section 13.1.2), else None.

    Only for fragments: a whole page also carries messages and the menu, which a 304 would leave stale. The polling
    element keeps the tag itself (`data-etag`), so nothing has to stay in the browser's cache for it.
    """
    known = request.headers.get("if-none-match", "")
    # Weak comparison: proxies may drop or add the W/ when they compress.
    same = tag.removeprefix("W/") in {part.strip().removeprefix("W/") for part in known.split(",")}
    if not same or not is_fragment(request):
        return None
    headers = {"ETag": tag, "Vary": "HX-Request"}
    if poll_seconds is not None:
        headers["Poll-Seconds"] = str(poll_seconds)
    return Response(status_code=304, headers=headers)
