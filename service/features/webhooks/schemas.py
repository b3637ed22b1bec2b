"""What goes in and out over the wire, and the list of everything we tell."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationInfo,
    create_model,
    field_validator,
)

from service.core.schemas import Input, Line, Output
from service.features.webhooks.models import Progress, State

REPLAYED_AT_ONCE = 10_000

ADDRESS = "https://hooks.example.com/ballast"
Described = Annotated[Line, StringConstraints(max_length=120), Field(examples=["Our data warehouse"])]


class EventType(StrEnum):
    """Each with what its `data` holds besides the organization. Names and fields are for ever: new ones may come."""

    meaning: str

    def __new__(cls, name: str, meaning: str) -> EventType:
        member = str.__new__(cls, name)
        member._value_, member.meaning = name, meaning
        return member

    INDICATOR_CREATED = "indicator.created", "An indicator was created: indicator_id"
    INDICATOR_UPDATED = "indicator.updated", "Its name, description or unit changed: indicator_id"
    INDICATOR_ARCHIVED = "indicator.archived", "It takes no more readings: indicator_id"
    INDICATOR_UNARCHIVED = "indicator.unarchived", "It takes readings again: indicator_id"
    INDICATOR_DELETED = "indicator.deleted", "It went to the bin: indicator_id"
    INDICATOR_RESTORED = "indicator.restored", "It came back from the bin: indicator_id"
    READINGS_ADDED = "readings.added", "Readings arrived, those of some seconds together: indicator_ids, added"
    READINGS_CORRECTED = "readings.corrected", "A stored reading has another value: indicator_id, at"
    MEMBER_JOINED = "member.joined", "An invitation was accepted: membership_id"
    MEMBER_LEFT = "member.left", "A member left or was removed: membership_id"
    PLAN_CHANGED = "plan.changed", "The plan is another one: from, to"


TEST = "endpoint.test"
"""Sent when somebody asks for it, whatever the endpoint subscribes to."""


def outside(url: str) -> str:
    """What no look-up is needed for to know; the sender has the last word (integrations/webhooks.py)."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for what is no port
    except ValueError as error:
        raise ValueError("must be an address like https://example.com/hooks") from error
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("must be an address like https://example.com/hooks")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not carry a user name or password")
    if parts.fragment:
        raise ValueError("must not have a part after #")
    if not re.fullmatch(r"[!-~]+", url):
        raise ValueError("must be plain ASCII without spaces: write other letters as %XX, and a name as xn--...")
    return url


def assume_utc(value: object) -> object:
    """Browsers send `2026-11-22T14:00` from a datetime field; the page says that it means UTC."""
    return f"{value}Z" if isinstance(value, str) and len(value) in (16, 19) else value


Moment = Annotated[AwareDatetime, BeforeValidator(assume_utc)]
Url = Annotated[Line, StringConstraints(min_length=1, max_length=2_000), AfterValidator(outside)]
Types = Annotated[list[EventType], Field(min_length=1, max_length=len(EventType))]


class EndpointCreate(Input):
    url: Url = Field(title="Address", examples=[ADDRESS])
    description: Described = ""
    event_types: Types = Field(title="Events")
    ordered: bool = Field(False, title="Keep the order")

    @field_validator("event_types")
    @classmethod
    def once_each(cls, types: list[EventType]) -> list[EventType]:
        return sorted(set(types))


class _Typed(Input):
    """An endpoint typed by a person: a box for each event."""

    url: Url = Field(title="Address", description="Where we POST to: https, on port 443 or 8443")
    description: Annotated[Line, StringConstraints(max_length=120)] = ""
    ordered: bool = Field(
        False,
        title="Keep the order",
        description="One message at a time, in the order of the changes; one that fails holds up those behind it",
    )

    def given(self) -> EndpointCreate:
        """Raises ValidationError when no box is ticked."""
        ticked = [one for one in EventType if getattr(self, box_of(one))]
        return EndpointCreate(url=self.url, description=self.description, ordered=self.ordered, event_types=ticked)


def box_of(event_type: str) -> str:
    return event_type.replace(".", "_")


BOXES: dict[str, Any] = {
    box_of(one): (bool, Field(False, title=one.value, description=one.meaning)) for one in EventType
}
EndpointForm = create_model("EndpointForm", __base__=_Typed, **BOXES)


class EndpointUpdate(Input):
    """Only what is sent changes."""

    url: Annotated[Url, Field(examples=[ADDRESS])] | None = None
    description: Described | None = None
    event_types: Types | None = None
    ordered: bool | None = None


class EndpointRead(Output):
    id: UUID
    url: Annotated[str, Field(examples=[ADDRESS])]
    description: Annotated[str, Field(examples=["Our data warehouse"])]
    event_types: list[str]
    ordered: bool
    state: State
    reason: Annotated[str, Field(examples=[""])]
    created_at: datetime
    changed_at: datetime
    failing_since: datetime | None
    old_secret_until: datetime | None


class EndpointCreated(EndpointRead):
    """The one answer that shows the signing secret; later it is on the endpoint's page."""

    secret: Annotated[str, Field(examples=["whsec_..."])]


class DeletedEndpointRead(Output):
    id: UUID
    url: Annotated[str, Field(examples=[ADDRESS])]
    deleted_at: datetime


class DeliveryRead(Output):
    id: UUID
    endpoint_id: UUID
    event_id: UUID
    type: Annotated[str, Field(examples=["indicator.updated"])]
    state: Progress
    created_at: datetime
    next_attempt_at: datetime
    finished_at: datetime | None
    attempts: int
    last_status: int | None


class AttemptRead(Output):
    number: int
    at: datetime
    status: int | None
    milliseconds: int
    error: Annotated[str, Field(examples=[""])]
    response: Annotated[str, Field(examples=["ok"])]


class DeliveryDetail(DeliveryRead):
    """One message with what is sent and what was answered: the last fifty attempts, newest first."""

    payload: dict[str, Any]
    tried: list[AttemptRead]


class Replayed(Output):
    messages: int


class Filters(Input):
    """Which messages of an endpoint the log shows."""

    state: Annotated[Progress | None, BeforeValidator(lambda value: value or None)] = None


class Range(Input):
    """What to send again: what was given up in this time, or what was delivered as well."""

    since: Moment = Field(title="From (UTC)")
    until: Moment = Field(title="To (UTC)", examples=["2026-03-31T15:30:00Z"])
    delivered: bool = Field(False, title="Also what was delivered")

    @field_validator("until")
    @classmethod
    def follows(cls, until: datetime, info: ValidationInfo) -> datetime:
        if until <= info.data.get("since", until - timedelta(1)):
            raise ValueError("must lie after the beginning")
        return until


class FailingRead(Output):
    """An endpoint as staff see it: no secret, no payload, and of its address, which often carries a token, the host."""

    id: UUID
    organization_id: UUID
    url: str
    state: str
    reason: str
    failures: int
    failing_since: datetime

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def standing(self) -> str:
        return f"{self.state} ({self.reason})" if self.reason else self.state


class EndpointListed(Output):
    """An endpoint, as staff see it in the list."""

    id: UUID
    organization_id: UUID
    state: str
    failures: int
    failing_since: datetime | None
    deleted_at: datetime | None
    created_at: datetime
