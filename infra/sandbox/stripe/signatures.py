"""The Stripe-Signature header: a timestamp, and one signature per live secret (docs.stripe.com/webhooks/signature)."""

from __future__ import annotations

import hashlib
import hmac


def signature(body: bytes, secrets: list[str], timestamp: int) -> str:
    """`t` is the moment of this attempt in seconds, not of the event: a retry after hours is as fresh as the first."""
    signed = b"%d.%s" % (timestamp, body)
    marks = (hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets)
    return ",".join([f"t={timestamp}", *(f"v1={mark}" for mark in marks)])
