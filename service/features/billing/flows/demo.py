"""The message from Stripe that waits for staff in the demo."""

from __future__ import annotations

from datetime import timedelta

from service.core import clock
from service.guardrails.inbox import InboxMessage, State


def message_of_nobody() -> InboxMessage:
    """About a customer that no organization has; staff link it, or discard it."""
    return InboxMessage(
        source="stripe", realm="test", external_id="evt_demo_of_nobody", type="customer.updated",
        subject="cus_demo_of_nobody", facts={}, body=b"{}", state=State.UNMATCHED, reason="", attempts=12,
        received_at=clock.now() - timedelta(hours=5),
    )  # fmt: skip
