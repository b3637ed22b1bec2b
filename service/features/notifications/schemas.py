"""What the pages about news show and take."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from service.core.schemas import Input, Output
from service.features.notifications.models import Channel, Kind

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


@dataclass(frozen=True, slots=True)
class Choice:
    """One kind of news, and how the asking person hears of it."""

    kind: Kind
    channel: Channel
