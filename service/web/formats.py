"""How values read on a page: numbers, shares and moments; the same in templates, charts and tables."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal

from markupsafe import Markup

from service.core import clock

NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
BIGGEST_SPELLED = 1e15
ISO, READABLE = "%Y-%m-%dT%H:%M:%SZ", "%-d %b %Y, %H:%M UTC"
SYMBOLS = {"eur": "€", "usd": "$", "gbp": "£"}
WITHOUT_CENTS = frozenset(
    {"bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"}
)
"""docs.stripe.com/currencies#zero-decimal; but Stripe counts ISK and UGX in hundredths (#special-cases)."""
IN_THOUSANDTHS = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})
"""docs.stripe.com/currencies#three-decimal"""
SCHEMES = ("https://", "http://", "mailto:")


def finite(value: float | Decimal | None) -> float | None:
    """A plain float, or None for what no scale can show: nothing, NaN, infinity, more than a float holds."""
    if value is None:
        return None
    try:
        plain = float(value)
    except (OverflowError, ValueError):
        return None
    return plain if math.isfinite(plain) else None


def number(value: float | Decimal | None, *, compact: bool = True, digits: int | None = None) -> str:
    """`12.3k` when compact (from 10,000 on), else `12,345.67`; an en dash for nothing.

    Below ten, four decimals unless told: an exchange rate of 1.0843 must not read 1.08.
    """
    plain = finite(value)
    if plain is None:
        return NOTHING
    sign, size = (MINUS if plain < 0 else ""), abs(plain)
    if size >= BIGGEST_SPELLED:
        return f"{sign}{size:.2e}".replace("e+", "e")
    digits = digits if digits is not None else 4 if size < 10 else 2
    if compact and size >= 10_000:
        return sign + _shorten(size)
    if 0 < size < 10**-digits:
        return f"{sign}{size:.2g}"
    text = f"{size:,.{digits}f}"
    return sign + (text.rstrip("0").rstrip(".") if "." in text else text)


def _shorten(size: float) -> str:
    """Three significant digits and a letter; 999,950 reads 1M and not 1,000k."""
    size = float(f"{size:.3g}")
    for factor, letter in UNITS:
        if size >= factor:
            return f"{size / factor:.3g}{letter}"
    return f"{size:.3g}"


def percent(ratio: float | Decimal | None, *, signed: bool = False, digits: int = 1) -> str:
    """`0.123` reads `12.3 %`; signed adds the plus of a change."""
    plain = finite(ratio)
    if plain is None:
        return NOTHING
    share = round(plain * 100, digits)
    if abs(share) >= 10_000:
        return "> 9,999 %" if share > 0 else f"< {MINUS}9,999 %"
    plus = "+" if signed and share > 0 else ""
    text = f"{abs(share):,.{digits}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return f"{plus or (MINUS if share < 0 else '')}{text} %"


def money(minor: int, currency: str) -> str:
    """`€12.00` from 1200 and "eur"; amounts come from Stripe in the currency's minor unit."""
    digits = 0 if currency in WITHOUT_CENTS else 3 if currency in IN_THOUSANDTHS else 2
    size = f"{abs(minor) / 10**digits:,.{digits}f}"
    sign = MINUS if minor < 0 else ""
    return f"{sign}{SYMBOLS[currency]}{size}" if currency in SYMBOLS else f"{sign}{size} {currency.upper()}"


def day(moment: datetime | None) -> str:
    """`3 Dec 2026`: what a customer is told about money and dates is the same in every zone."""
    return f"{as_utc(moment):%-d %b %Y}" if moment else NOTHING


def as_utc(moment: datetime) -> datetime:
    """A moment without a zone is read as UTC, which is what the database answers in."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def iso(moment: datetime) -> str:
    return f"{as_utc(moment):{ISO}}"


def date_time(moment: datetime | None) -> Markup | str:
    """UTC for everyone; app.js shows the reader's own zone when scripts run."""
    if moment is None:
        return NOTHING
    at = as_utc(moment)
    return Markup(f'<time datetime="{at:{ISO}}" data-time="full">{at:{READABLE}}</time>')  # noqa: S704 - only digits


def ago(moment: datetime | None) -> Markup | str:
    """`5 min ago`, `in 3 days`; the exact moment stands in the attribute and on hover."""
    if moment is None:
        return NOTHING
    at = as_utc(moment)
    text = _distance((clock.now() - at).total_seconds(), at)
    return Markup(  # noqa: S704 - only digits and our own words
        f'<time datetime="{at:{ISO}}" data-time="ago" title="{at:{READABLE}}">{text}</time>'
    )


def _distance(seconds: float, moment: datetime) -> str:
    size = abs(seconds)
    if size < 45:
        return "just now"
    for limit, unit, name in ((3_600, 60, "min"), (86_400, 3_600, "h"), (30 * 86_400, 86_400, "day")):
        if size < limit:
            count = max(1, round(size / unit))
            plural = "s" if name == "day" and count > 1 else ""
            return f"{count} {name}{plural} ago" if seconds > 0 else f"in {count} {name}{plural}"
    return f"{moment:%-d %b %Y}"


def initials(name: str) -> str:
    """One or two letters for an avatar."""
    words = [word for word in name.split() if word[0].isalnum()]
    return ("".join(word[0] for word in (words[:1] + words[-1:] if len(words) > 1 else words))).upper() or "?"


def safe_url(url: str) -> str:
    """The address if a browser can only navigate with it, else `#`: autoescape does not stop `javascript:`."""
    if not url.isprintable() or "\\" in url:
        return "#"
    if url.startswith(("/", "#", "?")):
        return "#" if url.startswith("//") else url
    return url if url.lower().startswith(SCHEMES) else "#"
