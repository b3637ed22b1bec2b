"""Writes: visits to customers' accounts, and emergency rights."""

from service.features.support.actions.emergency import (
    close_break_glass,
    end_break_glass,
    open_break_glass,
    record_review,
    review_break_glass,
)
from service.features.support.actions.visits import allow_access, begin_visit, come_back, expire_visit, stop_visit

__all__ = [
    "allow_access", "begin_visit", "close_break_glass", "come_back", "end_break_glass", "expire_visit",
    "open_break_glass", "record_review", "review_break_glass", "stop_visit",
]  # fmt: skip
