"""One tree of expected failures; each knows its HTTP status, a stable code and how the reader can mend it.

    ServiceError
    ├── BadRequest 400          the request cannot be understood
    ├── NotAuthenticated 401    we do not know who asks
    ├── Forbidden 403           we know, and they may not
    │   ├── StepUpRequired 403  they may, after proving again who they are
    │   └── NotInPlan 403       what the organization pays for does not include it (guardrails.entitlements)
    ├── NotFound 404            no such thing, or not yours: the answer is the same
    ├── Conflict 409            the state of things forbids it
    ├── PreconditionFailed 412  somebody changed it in between
    ├── PayloadTooLarge 413
    ├── UnsupportedMedia 415
    ├── Invalid 422             understood, but a value is wrong; carries `fields`
    ├── TooManyRequests 429     carries `retry_after` seconds
    ├── RequestTimeout 408      the body did not arrive in time
    └── Unavailable 503         a dependency is away; carries `retry_after` seconds
        └── ReadOnly 503        an operator stopped changes

Rendering lives in `service.web.errors`: RFC 9457 problem details for the API, pages and fragments for browsers.
"""

from __future__ import annotations

from typing import ClassVar


class ServiceError(Exception):
    """`detail` says what is wrong, `mend` what to do about it; both are shown, so neither repeats the input."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something went wrong"
    default_mend: ClassVar[str] = ""
    meaning: ClassVar[str] = "A mistake of ours stopped the request. We see it in our logs under the request's id."
    """What the page about this problem says (/problems/{code}); the detail of each case is in the answer itself."""
    way_out: ClassVar[tuple[str, str] | None] = None
    """Label and path of the page that helps, as a button for people."""

    def __init__(
        self, detail: str, *, mend: str = "", fields: dict[str, str] | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.mend = mend or self.default_mend
        self.fields = fields or {}
        self.retry_after = retry_after


def kinds() -> dict[str, type[ServiceError]]:
    """Every kind of problem by its code, in order; a class without a code of its own is a case of its parent."""
    found, waiting = {}, [ServiceError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if "code" in vars(kind):
            found[kind.code] = kind
    return dict(sorted(found.items()))


class BadRequest(ServiceError):
    status, code, title = 400, "bad-request", "Bad request"
    default_mend = "Correct the request and send it again."
    meaning = (
        "The request cannot be understood: its JSON, a header or its form is broken, or nothing here has that name."
    )


class NotAuthenticated(ServiceError):
    status, code, title = 401, "not-authenticated", "Please log in"
    default_mend = "Log in and try again."
    meaning = "We do not know who asks. Nothing was looked at and nothing was changed."


class Forbidden(ServiceError):
    status, code, title = 403, "forbidden", "Not allowed"
    default_mend = "Ask an owner or admin of the organization for the right role."
    meaning = "We know who asks, and they may not do this: their role, or the key's scopes, do not include it."


class StepUpRequired(Forbidden):
    code, title = "step-up-required", "Please confirm that it is you"
    default_mend = "Enter your password again, then repeat what you were doing."
    meaning = "The last check of a password was too long ago for an act that cannot be undone."


NOTHING_HERE = "There is nothing at this address."


class NotFound(ServiceError):
    status, code, title = 404, "not-found", "Not found"
    default_mend = "Check the address; it may have been deleted, or belong to another organization."
    meaning = "There is no such thing, or it belongs to somebody else: the answer is the same, so that nobody can tell."


class RequestTimeout(ServiceError):
    status, code, title = 408, "request-timeout", "The request took too long to arrive"
    default_mend = "Send it again over a faster connection, or send less."
    meaning = "The request's body came too slowly. It was not looked at."


class Conflict(ServiceError):
    status, code, title = 409, "conflict", "That does not fit the current state"
    default_mend = "Reload to see the current state, then try again."
    meaning = (
        "The request is right in itself, but the present state of things forbids it: a name that is taken, "
        "say, or an archived indicator."
    )


class PreconditionFailed(ServiceError):
    status, code, title = 412, "precondition-failed", "Changed in the meantime"
    default_mend = "Fetch the latest version, apply your change to it, and send it again."
    meaning = (
        "The request named a version with If-Match, and somebody has changed the thing since. Nothing was overwritten."
    )


class PayloadTooLarge(ServiceError):
    status, code, title = 413, "payload-too-large", "Too large"
    default_mend = "Send less at once."
    meaning = "The body is longer than this address takes. It was not looked at."


class UnsupportedMedia(ServiceError):
    status, code, title = 415, "unsupported-media-type", "Unsupported content type"
    default_mend = "Send JSON with 'Content-Type: application/json'."
    meaning = "The body is in a format that this address does not read."


class Invalid(ServiceError):
    status, code, title = 422, "invalid", "Some values are not right"
    default_mend = "Correct the fields that are named and send it again."
    meaning = "The request is understood, but a value in it is wrong; `errors` names each field. Nothing was stored."


class TooManyRequests(ServiceError):
    status, code, title = 429, "too-many-requests", "Too many requests"
    default_mend = "Wait for the time given in Retry-After, then try again."
    meaning = "More requests came than the limit allows. Each answer's X-RateLimit headers say how many are left."


class Unavailable(ServiceError):
    status, code, title = 503, "unavailable", "Temporarily unavailable"
    default_mend = "Nothing was changed. Try again in a moment."
    meaning = "Something that we depend on is away or busy. Nothing was changed."


class ReadOnly(Unavailable):
    code, title = "read-only", "Changes are paused"
    default_mend = "Reading works; changes are possible again when the maintenance is over."
    meaning = "An operator has paused all changes, usually for maintenance."
