"""Billing periods: a month after 31 January is 28 February, and the one after that 31 March again."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime

from infra.sandbox.stripe.clock import DAY
from infra.sandbox.stripe.store import Obj

FIXED = {"day": DAY, "week": 7 * DAY}
MONTHS = {"month": 1, "year": 12}


def period_end(start: int, recurring: Obj, anchor: int) -> int:
    """When a period that starts then is over; the anchor's day of the month is kept where the month has it."""
    count = int(recurring["interval_count"])
    if seconds := FIXED.get(recurring["interval"]):
        return start + count * seconds
    began, anchored = datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(anchor, UTC)
    month = began.month - 1 + count * MONTHS[recurring["interval"]]
    year, month = began.year + month // 12, month % 12 + 1
    day = min(anchored.day, monthrange(year, month)[1])
    return int(began.replace(year=year, month=month, day=day).timestamp())
