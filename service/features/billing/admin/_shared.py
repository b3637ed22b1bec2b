"""What the staff's pages on billing have in common."""

from __future__ import annotations

from fastapi import APIRouter

from service.core.errors import Conflict, Invalid
from service.core.schemas import Input
from service.guardrails.staff_reasons import Reason

router = APIRouter()

HOME, INBOX, CUSTOMERS = (f"/staff/billing{rest}" for rest in ("", "/inbox", "/customers"))
TABS = (
    ("Overview", HOME),
    ("Messages", INBOX),
    ("Unmatched", "/staff/dead-letters/stripe-messages"),
    ("Given up", "/staff/dead-letters/stripe-customers"),
)
REFUSALS = (Conflict, Invalid)


class Why(Input):
    reason: Reason
