"""Whether a webhook is Stripe's: its signature, under any of our secrets, at a time near ours.

Protects from: forged, altered and replayed events. Nothing here asks a database or the network, so it may stand before
everything else. Two secrets during a roll: Stripe signs with both for up to a day, and either order of deploying works.

Limits: within the tolerance a captured request can be sent again; the inbox knows the event's id by then.
Source: docs.stripe.com/webhooks#verify-manually.
"""

from __future__ import annotations

from stripe import SignatureVerificationError, WebhookSignature

from service.core import clock, telemetry
from service.core.settings import Settings

LONGEST_HEADER = 2_048
"""Some 25 signatures. Stripe sends one per live secret; each costs us a comparison."""


class SignatureRefused(Exception):
    """`reason`: missing, malformed, not_text, mismatch, too_old or too_new; safe to count and to log."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the signature was refused: {reason}")
        self.reason = reason


def verify(settings: Settings, header: str | None, body: bytes) -> str:
    """The number of the secret that signed `body`, "1" for the newest; raises SignatureRefused.

    The time is judged last: "too old" is then said of Stripe's own events alone, and means that a clock is wrong.
    """
    try:
        found = _verify(settings, header, body)
    except SignatureRefused as refused:
        telemetry.stripe_signatures.labels(refused.reason).inc()
        raise
    telemetry.stripe_signatures.labels(f"secret {found}").inc()
    return found


def _verify(settings: Settings, header: str | None, body: bytes) -> str:
    if not header:
        raise SignatureRefused("missing")
    signed_at = _time_of(header)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise SignatureRefused("not_text") from error
    for number, secret in enumerate(settings.stripe_webhook_secrets.get_secret_value().split(","), 1):
        try:
            # Without its tolerance: the library looks at the past alone, and takes 0 for "any time".
            WebhookSignature.verify_header(text, header, secret, None)
        except SignatureVerificationError:
            continue
        age = clock.now().timestamp() - signed_at
        if abs(age) > settings.stripe_tolerance_seconds:
            raise SignatureRefused("too_old" if age > 0 else "too_new")
        return str(number)
    raise SignatureRefused("mismatch")


def _time_of(header: str) -> int:
    """The header's time in epoch seconds; refuses whatever the library would read differently, or stumble over."""
    parts = [part.partition("=") for part in header.split(",")]
    times = [value for name, _, value in parts if name == "t"]
    signatures = [value for name, _, value in parts if name == "v1"]
    # Non-ASCII text cannot be compared in constant time: the library raises TypeError.
    fit = header.isascii() and len(header) <= LONGEST_HEADER and len(times) == 1 and bool(signatures)
    if not fit or not times[0].isdecimal() or len(times[0]) > 12:
        raise SignatureRefused("malformed")
    return int(times[0])
