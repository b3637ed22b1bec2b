"""Whether events are SendGrid's: ECDSA (P-256, SHA-256) over timestamp and body, under any of our public keys.

Protects from: forged and altered events. Nothing here asks a database or the network, so it may stand before everything
else. Two keys during a change: SendGrid makes a new pair each time signing is switched off and on.

Limits: no age is too old. SendGrid tries a delivery again for a day, so a late one is no attack; a captured one that is
sent again holds events whose ids the inbox knows. Source: twilio.com/docs/sendgrid/for-developers/tracking-events.
"""

from __future__ import annotations

import base64

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from service.core.curves import curve_key
from service.core.settings import Settings

SIGNATURE_HEADER = "x-twilio-email-event-webhook-signature"
TIMESTAMP_HEADER = "x-twilio-email-event-webhook-timestamp"
LONGEST_HEADER = 200


class SignatureRefused(Exception):
    """`reason`: missing, malformed or mismatch; safe to count and to log."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the signature was refused: {reason}")
        self.reason = reason


def verify(settings: Settings, signature: str | None, timestamp: str | None, body: bytes) -> None:
    """Raises SignatureRefused."""
    if not signature or not timestamp:
        raise SignatureRefused("missing")
    if len(signature) > LONGEST_HEADER or not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > 12:
        raise SignatureRefused("malformed")
    try:
        raw = base64.b64decode(signature, validate=True)
    except ValueError as error:
        raise SignatureRefused("malformed") from error
    for key in settings.sendgrid_webhook_keys:
        try:
            curve_key(key).verify(raw, timestamp.encode() + body, ec.ECDSA(SHA256()))
        except InvalidSignature:
            continue
        return
    raise SignatureRefused("mismatch")
