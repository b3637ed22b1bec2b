"""Time-based one-time codes (RFC 6238): the second factor. Each code works once, although its window lasts longer."""

from __future__ import annotations

import hmac
from datetime import datetime

import pyotp
import segno

PERIOD_SECONDS = 30
WINDOW = 1
"""Steps accepted before and after the present one: phones' clocks drift."""


def new_secret() -> bytes:
    """160 random bits, as RFC 4226 section 4 recommends, in base 32."""
    return pyotp.random_base32(32).encode()


def matching_step(secret: bytes, code: str, *, at: datetime, after: int) -> int | None:
    """The time step whose code this is, among those later than `after`; None when it is wrong or was used before."""
    digits = "".join(code.split())
    if len(digits) != 6 or not (digits.isascii() and digits.isdigit()):
        return None
    codes = pyotp.TOTP(secret.decode(), interval=PERIOD_SECONDS)
    now = int(at.timestamp()) // PERIOD_SECONDS
    found = None
    for step in range(now - WINDOW, now + WINDOW + 1):
        # Every candidate is compared, whatever came before: the time taken tells nothing.
        if hmac.compare_digest(codes.generate_otp(step), digits) and step > after:
            found = step
    return found


def code_at(secret: bytes, at: datetime) -> str:
    """What an authenticator shows at this moment; the tests play the phone with it."""
    return pyotp.TOTP(secret.decode(), interval=PERIOD_SECONDS).generate_otp(int(at.timestamp()) // PERIOD_SECONDS)


def provisioning_uri(secret: bytes, *, account: str) -> str:
    return pyotp.TOTP(secret.decode(), interval=PERIOD_SECONDS).provisioning_uri(name=account, issuer_name="Ballast")


def qr_code(uri: str) -> str:
    """The QR code as a data: URI of an SVG, so that no other site ever draws (and sees) the secret."""
    image: str = segno.make(uri, error="m").svg_data_uri(scale=5, border=2, light="white")
    return image
