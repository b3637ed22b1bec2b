"""What the home of staff leads to: each feature declares its tiles in admin.py.

STAFF_PAGES = [StaffPage("Billing", "/staff/billing", "How far the copy of Stripe is behind.", order=20)]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class StaffPage:
    title: str
    href: str
    text: str
    order: int = 100


def in_order(pages: Iterable[StaffPage]) -> list[StaffPage]:
    return sorted(pages, key=lambda page: (page.order, page.title))


def addresses(app: Any) -> tuple[tuple[str, str], ...]:
    """Each page that the home leads to: (title, address)."""
    return tuple((page.title, page.href) for page in getattr(app.state, "staff_pages", ()))


def why(path: str, asked: str = "") -> str:
    """Where to say why somebody's personal data must be seen, and back again."""
    return f"/staff/reasons?next={quote(f'{path}?{asked}' if asked else path, safe='/')}"
