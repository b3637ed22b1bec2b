"""How a failure reads: RFC 9457 problem details for the API, a page for people, an escaped fragment for htmx.

Every 4xx says what is wrong and how to mend it and never repeats the input; a 5xx shows a request id and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Scope

from service.core import errors
from service.core.errors import NOTHING_HERE, Invalid, NotFound, ServiceError
from service.core.settings import get_settings
from service.guardrails.strict_json import API_PREFIX
from service.web.responses import is_fragment, redirect, safe_path
from service.web.sentences import message_for
from service.web.templating import render, render_fragment

BY_STATUS: Mapping[int, type[ServiceError]] = {
    kind.status: kind
    for kind in (
        errors.BadRequest, errors.NotAuthenticated, errors.Forbidden, errors.NotFound, errors.RequestTimeout,
        errors.Conflict, errors.PreconditionFailed, errors.PayloadTooLarge, errors.UnsupportedMedia, errors.Invalid,
        errors.TooManyRequests, errors.Unavailable,
    )
}  # fmt: skip

STAFF_PREFIX = "/staff"


class MethodNotAllowed(ServiceError):
    status, code, title = 405, "method-not-allowed", "Method not allowed"
    default_mend = "The Allow header lists the methods that work here."
    meaning = "The address exists, but not for this method."


Detours = Mapping[type[ServiceError], str | Callable[[Request], str]]


def install_error_handlers(app: FastAPI, detours: Detours) -> None:
    """Render every failure of the application; `detours` sends people who must log in or confirm there and back."""

    async def expected(request: Request, error: Exception) -> Response:
        assert isinstance(error, ServiceError)  # noqa: S101 - Starlette dispatches by this very type
        if not wants_problem(request):
            for kind, place in detours.items():
                if isinstance(error, kind):
                    return _detour(request, place if isinstance(place, str) else place(request))
        return answer(request, error)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - as above
        if error.status_code == 405 and request.url.path.startswith(STAFF_PREFIX):
            # No context has asked who it is: which methods an address takes would tell strangers that it exists.
            return answer(request, NotFound(NOTHING_HERE))
        return answer(request, _from_http(error), headers=error.headers)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
        return answer(request, from_validation(error, people=not wants_problem(request)))

    async def unexpected(request: Request, _: Exception) -> Response:
        return answer(request, ServiceError("Something went wrong on our side."))

    app.add_exception_handler(ServiceError, expected)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, unexpected)


def wants_problem(request: Request) -> bool:
    """Programs get problem details: everything under /api, and whoever accepts JSON but no HTML."""
    accept = request.headers.get("accept", "")
    return request.url.path.startswith(API_PREFIX) or ("json" in accept and "text/html" not in accept)


def answer(request: Request, error: ServiceError, *, headers: Mapping[str, str] | None = None) -> Response:
    """The response for a failure, in the form that the asker reads."""
    extra = {"Cache-Control": "no-store", **(headers or {})}
    if error.retry_after is not None:
        extra["Retry-After"] = str(error.retry_after)
    if error.status == 401 and request.url.path.startswith(API_PREFIX):
        extra["WWW-Authenticate"] = "Bearer"  # RFC 9110, 11.6.1 and RFC 6750
    if wants_problem(request):
        return Response(orjson.dumps(problem(request, error)), error.status, extra, "application/problem+json")
    values: dict[str, Any] = {"error": error, "request_id": request_id(request)}
    if is_fragment(request):
        # The failed part keeps its place on the page; the message goes where messages go, replacing an older one.
        extra |= {"HX-Retarget": "#messages", "HX-Reswap": "innerHTML"}
        return render_fragment(request, "error_fragment.html", "body", status=error.status, headers=extra, **values)
    return render(request, "error.html", status=error.status, headers=extra, **values)


def refusal(app: FastAPI, scope: Scope, error: ServiceError) -> ASGIApp:
    """The answer to a request that never reached the application (guardrails.browser.Shield)."""
    return answer(Request({**scope, "app": app}), error)


def problem(request: Request, error: ServiceError) -> dict[str, Any]:
    """RFC 9457 members, plus `mend` (what to do), `code`, the fields and the request id to quote to support."""
    known = {"detail": error.detail, "mend": error.mend} if error.status < 500 or error.retry_after else {}
    body = {"type": type_of(error), "title": error.title, "status": error.status, **known}
    body |= {"code": error.code, "request_id": request_id(request)}
    if error.fields:
        body["errors"] = [{"field": name, "message": message} for name, message in error.fields.items()]
    return body


def type_of(error: ServiceError | type[ServiceError]) -> str:
    """The address of our page about this kind of problem."""
    return f"{get_settings().base_url}/problems/{error.code}"


def from_validation(error: RequestValidationError, *, people: bool = False) -> ServiceError:
    """FastAPI's findings without its echo of the input; a malformed id in a page's path is a page that is not there."""
    findings = error.errors()
    if people and any(item["loc"][:1] == ("path",) for item in findings):
        return NotFound(NOTHING_HERE)
    if any(item["type"] == "json_invalid" for item in findings):
        return errors.BadRequest("The body is not valid JSON.", mend="Send one JSON value in UTF-8.")
    fields: dict[str, str] = {}
    for item in findings:
        name = ".".join(str(part) for part in item["loc"][1:]) or str(item["loc"][0] if item["loc"] else "body")
        unknown = item["type"] == "extra_forbidden"
        # The client's own names are input too: an unknown one is not repeated.
        fields.setdefault("body" if unknown else name, "Unknown fields are refused." if unknown else message_for(item))
    return Invalid("Some values are not right.", fields=fields)


def request_id(request: Request) -> str:
    return str((request.scope.get("state") or {}).get("request_id", ""))


def _from_http(error: HTTPException) -> ServiceError:
    if error.status_code == 404:
        return NotFound(NOTHING_HERE)
    if error.status_code == 405:
        return MethodNotAllowed("This address does not take that method.")
    kind = BY_STATUS.get(error.status_code)
    if kind is None:
        kind = errors.BadRequest if error.status_code < 500 else ServiceError
    return kind(kind.title + ".")


def _detour(request: Request, to: str) -> Response:
    """To the log-in and back; a POST comes back to the page it was sent from, since its body is gone."""
    wanted = urlsplit(str(request.url))
    if request.method != "GET" or is_fragment(request):
        wanted = urlsplit(request.headers.get("hx-current-url") or request.headers.get("referer", ""))
    back = wanted.path + (f"?{wanted.query}" if wanted.query else "")
    if wanted.netloc != request.url.netloc or wanted.path in ("", "/", to) or not safe_path(back, default=""):
        return redirect(request, to)
    return redirect(request, f"{to}?next={quote(back, safe='/')}")
