"""What can become of a call to Stripe: every failure is one of five, and each says what may be done about it.

    StripeFailed
    ├── StripeAway            no usable answer: try again later; `sent` says whether the effect may have happened
    ├── StripeRefused         understood and declined: the same call will be declined again
    │   └── StripeAbsent      the object that was asked for does not exist (any more)
    └── StripeMisconfigured   our key is wrong or may not do this: a person has to look

Their text never quotes Stripe: its messages name people, cards and amounts. `StripeRefused.message` is for staff alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BUSY = {409: "conflict", 429: "limited"}
ABSENT = frozenset(
    {"id", "charge", "customer", "dispute", "intent", "invoice", "payment_method", "refund", "session", "subscription"}
)
"""Parameters that name the object itself. A missing price or coupon (`items[0][price]`) is our mistake, not an absence;
so is an object of the other mode, and an address that Stripe does not know has no such code at all."""


class StripeFailed(Exception):
    """A call to Stripe had no result that can be used."""


class StripeAway(StripeFailed):
    """`reason`: connection, deadline, garbled, server_error, limited, conflict, open (breaker) or crowded (our queue).

    `sent`: the effect may have happened; only the same bytes under the same key may follow. `retry_after` in seconds.
    """

    def __init__(self, reason: str, *, sent: bool, retry_after: int = 1) -> None:
        super().__init__(f"Stripe gave no answer: {reason}")
        self.reason, self.sent, self.retry_after = reason, sent, retry_after


class StripeRefused(StripeFailed):
    """`code`, `decline_code` and `param` are Stripe's own words (docs.stripe.com/error-codes), empty when not given."""

    def __init__(self, status: int, code: str, *, decline_code: str = "", param: str = "", message: str = "") -> None:
        super().__init__(f"Stripe refused with {status} {code} {param}".rstrip())
        self.status, self.code, self.decline_code, self.param, self.message = status, code, decline_code, param, message


class StripeAbsent(StripeRefused):
    """What was asked for is not there."""


class StripeMisconfigured(StripeFailed):
    """Billing is off, or the key is wrong, of the other mode, or lacks a permission; trying again will not help."""


def failure(status: int, body: Any, headers: Mapping[str, str]) -> StripeFailed:
    """What an answer other than 2xx means; `body` is whatever came, parsed, or None."""
    told = body.get("error") if isinstance(body, dict) else None
    found: dict[str, Any] = told if isinstance(told, dict) else {}
    code, decline_code, param, message = (
        value if isinstance(value := found.get(name), str) else ""
        for name in ("code", "decline_code", "param", "message")
    )
    if status in BUSY or code in ("rate_limit", "lock_timeout"):
        wait = headers.get("retry-after", "")
        # What was turned away at the door did nothing; a conflict says that the same key is at work right now.
        return StripeAway(
            BUSY.get(status, "limited"), sent=status == 409, retry_after=min(int(wait), 60) if wait.isdecimal() else 1
        )
    if status in (401, 403) or "a similar object exists in" in message:
        return StripeMisconfigured(f"Stripe does not accept our key for this: {status} {code}".rstrip())
    if not 400 <= status < 500:
        return StripeAway("server_error", sent=True)
    gone = (code == "resource_missing" and param in ABSENT) or (status, code) == (404, "not_found")
    return (StripeAbsent if gone else StripeRefused)(
        status, code or str(found.get("type") or ""), decline_code=decline_code, param=param, message=message
    )
