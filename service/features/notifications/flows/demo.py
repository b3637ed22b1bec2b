"""The news of the demo."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from uuid import UUID

from service.core import clock
from service.features.notifications.models import MEMBER_JOINED, ROLE_CHANGED, Notification
from service.features.notifications.schemas import SOURCE
from service.guardrails.inbox import InboxMessage, State
from service.guardrails.mailing import Cause, MailSuppression, hash_of
from service.guardrails.permissions import Role


def event_nobody_understands() -> InboxMessage:
    """A bounce without its time, about nobody; staff find it among the dead letters."""
    return InboxMessage(
        source=SOURCE, realm="", external_id="demo-bounce", type="bounce", subject=None, facts={}, body=b"{}",
        state=State.DEAD, reason="", attempts=5, last_error="KeyError", received_at=clock.now() - timedelta(days=1),
    )  # fmt: skip


def held_back(email: str) -> MailSuppression:
    """An address that bounced: mail does not go there until staff lift it."""
    return MailSuppression(
        address_hash=hash_of(email), email=email, cause=Cause.BOUNCE, code="5.1.1",
        seen_at=clock.now() - timedelta(days=4),
    )  # fmt: skip


def news_for(user_id: UUID, role: Role, colleagues: Sequence[tuple[str, str, Role]]) -> Iterator[Notification]:
    """Something read long ago for everybody, and something new for those who look after people."""
    was = clock.now() - timedelta(days=12)
    yield Notification(
        user_id=user_id, kind=ROLE_CHANGED.name, text=f"You are {role.label} now.", href="/members", key="seed",
        created_at=was, read_at=was + timedelta(hours=3),
    )  # fmt: skip
    if role >= MEMBER_JOINED.of:
        for colleague, word, place in colleagues:
            yield Notification(
                user_id=user_id, kind=MEMBER_JOINED.name, text=f"{colleague} has joined as {place.label}.",
                href="/members", key=word, created_at=clock.now() - timedelta(hours=len(word)),
            )  # fmt: skip
