"""What goes in and out. The form's scopes are those of the features that have an API."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import Field, create_model, model_validator

from service.core.schemas import Input, Name, Output
from service.features.api_keys.models import why_ended
from service.features.organizations.schemas import RoleName


class Lasts(StrEnum):
    """How long a new key works."""

    MONTH = "30 days"
    QUARTER = "90 days"
    YEAR = "365 days"
    EVER = "Until it is revoked"

    @property
    def span(self) -> timedelta | None:
        return timedelta(days=int(self.split()[0])) if self is not Lasts.EVER else None


class Overlap(StrEnum):
    """How long the old secret works beside the new one."""

    NONE = "Not at all"
    HOUR = "1 hour"
    DAY = "24 hours"
    WEEK = "168 hours"

    @property
    def span(self) -> timedelta:
        return timedelta(hours=int(self.split()[0])) if self is not Overlap.NONE else timedelta()


class KeyTyped(Input):
    name: Name = Field(description="What will use it, for example “Nightly import”.")
    lasts: Lasts = Field(Lasts.QUARTER, title="Works for")


class KeyCreate(KeyTyped):
    scopes: list[str] = Field(min_length=1, max_length=50)


class KeyRotate(Input):
    overlap: Overlap = Field(Overlap.DAY, title="The old secret works for")


def key_form(scopes: list[str]) -> type[Input]:
    """The form of a new key: a box per scope, because a browser sends one value per name."""
    fields: dict[str, Any] = {scope: (bool, Field(False, title=describe(scope))) for scope in scopes}
    made: type[Input] = create_model("KeyForm", __base__=KeyTyped, **fields)
    return made


def describe(scope: str) -> str:
    """indicators:write reads "Change indicators"."""
    feature, _, kind = scope.partition(":")
    return f"{'Change' if kind == 'write' else 'Read'} {feature.replace('_', ' ')}"


class KeyRead(Output):
    """`problem` says why it no longer works, `maker_role` what whoever holds the secret is now (nothing: no member).

    `creator` is empty when that person's account is gone.
    """

    id: UUID
    name: str
    role: RoleName
    scopes: list[str]
    prefix: str
    created_at: datetime
    creator: str
    maker_role: RoleName | None
    expires_at: datetime | None
    previous_until: datetime | None
    last_used_at: datetime | None
    problem: str

    @model_validator(mode="before")
    @classmethod
    def from_row(cls, row: dict[str, Any]) -> dict[str, Any]:
        return row | {"creator": row["creator"] or "", "problem": why_ended(row["revoked_at"], row["expires_at"])}


@dataclass(frozen=True, slots=True)
class Minted:
    """A key and its secret, which is shown once."""

    id: UUID
    name: str
    secret: str


class KeyListed(Output):
    """An API key, as staff see it in the list."""

    id: UUID
    organization_id: UUID
    prefix: str
    role: str
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None
