"""What the home of staff leads to: each feature declares its tiles in admin.py.

STAFF_PAGES = [StaffPage("Billing", "/staff/billing", "How far the copy of Stripe is behind.", order=20)]
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StaffPage:
    title: str
    href: str
    text: str
    order: int = 100
