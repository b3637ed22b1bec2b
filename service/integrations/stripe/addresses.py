"""Stripe's own pages: the only places outside this site that people are sent to pay.

Limits: a Checkout page under a domain of one's own (a paid option of Stripe's) has to be added here.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from service.core.insecurities import STRIPE
from service.core.settings import Settings

PAGES = (
    "https://checkout.stripe.com",
    "https://billing.stripe.com",
    "https://invoice.stripe.com",
    "https://pay.stripe.com",
)


def stripe_origins(settings: Settings) -> tuple[str, ...]:
    """Where Stripe shows its pages, or where the stand-in does that is used in its place."""
    base = settings.stripe_api_base.rstrip("/")
    return PAGES if base in ("", STRIPE) else (_origin(base),)


def is_stripe_page(settings: Settings, address: str) -> bool:
    return address.isprintable() and _origin(address) in stripe_origins(settings)


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"
