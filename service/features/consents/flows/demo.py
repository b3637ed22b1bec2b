"""Somebody agreed to news and somebody wants to be left alone; and a piece of news that went out."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from service.core import clock
from service.features.consents.models import PRODUCT_NEWS, News
from service.guardrails.purposes import EVERYTHING, Consent, ProcessingLimit, said


def agreed(user_id: UUID) -> Consent:
    return said(user_id, PRODUCT_NEWS, given=True, source="page")


def restricted(user_id: UUID) -> ProcessingLimit:
    """By letter, so staff placed it."""
    return ProcessingLimit(
        user_id=user_id, purpose=EVERYTHING, reason="Letter of last month: disputes the address that we hold",
        placed_at=clock.now() - timedelta(days=9),
    )  # fmt: skip


def news_of_last_month() -> News:
    return News(
        subject="Sources bring figures by themselves",
        text="Exchange rates, GitHub and Plausible are asked every hour: connect one under Sources.",
        created_at=clock.now() - timedelta(days=30),
    )
