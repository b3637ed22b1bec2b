"""A request of the demo that waits for its second pair of eyes."""

from __future__ import annotations

from datetime import timedelta

from service.core import clock
from service.core.ids import new_id
from service.features.accounts.models import User
from service.features.erasure.models import ErasureRequest, Source, State


def letter_from(user: User) -> ErasureRequest:
    """Entered by a colleague, so that whoever logs in as staff may check it."""
    return ErasureRequest(
        user_id=user.id,
        email=user.email,
        state=State.REQUESTED,
        source=Source.STAFF,
        reason="Letter of last week, ticket 4711",
        requested_at=clock.now() - timedelta(days=3),
        requested_by=new_id(),
    )
