"""What the pages about news show and take."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from service.core.crypto import BadSignature
from service.core.errors import BadRequest
from service.core.schemas import Input, Line, Output
from service.features.notifications.models import KINDS, Channel, Kind
from service.guardrails.mailing import Cause
from service.guardrails.purposes import PURPOSES
from service.guardrails.staff_reasons import Reason
from service.web.mail import unsubscribed

SOURCE = "sendgrid"
"""Whose events the inbox holds for us."""
CHANNELS = [
    (Channel.MAIL.value, "Here and by mail"),
    (Channel.APP.value, "Here only"),
    (Channel.OFF.value, "Not at all"),
]


class NotificationRead(Output):
    id: UUID
    kind: str
    text: str
    href: str
    created_at: datetime
    read_at: datetime | None


class ChannelChange(Input):
    channel: Channel


class Lift(Input):
    reason: Reason


class SuppressionRead(Output):
    id: UUID
    email: str
    cause: Cause
    code: str
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class Unsubscription:
    """What a link in a mail stops: one kind for one person, or all news to one address."""

    kind: str
    user_id: UUID | None
    address: str

    @property
    def title(self) -> str:
        known = KINDS.get(self.kind) or PURPOSES.get(self.kind)
        return known.title if known else "News from us"


def read_unsubscription(token: str) -> Unsubscription:
    """Raises BadRequest for a link that we never made."""
    try:
        kind, whose = unsubscribed(token)
        user_id = None if kind == "address" else UUID(whose)
    except (BadSignature, ValueError) as error:
        raise BadRequest("This link stops nothing.", mend="Copy the whole link from the mail.") from error
    return Unsubscription(kind, user_id, "" if user_id else whose)


@dataclass(frozen=True, slots=True)
class Choice:
    """One kind of news, and how the asking person hears of it."""

    kind: Kind
    channel: Channel


class SuppressionsWanted(Input):
    """Which address staff ask about."""

    q: Annotated[Line, StringConstraints(max_length=254)] = Field(
        "", title="Find an address", description="The whole address."
    )
