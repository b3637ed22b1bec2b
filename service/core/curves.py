"""Public keys on the curve P-256 (FIPS 186-5), as signers of webhooks hand them out."""

from __future__ import annotations

import base64
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key


@lru_cache(maxsize=16)
def curve_key(text: str) -> ec.EllipticCurvePublicKey:
    """The key behind base64 DER, as SendGrid shows it, or PEM without its first and last line. Raises ValueError."""
    key = load_der_public_key(base64.b64decode(text, validate=True))
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("must be a public key on the curve P-256")
    return key
