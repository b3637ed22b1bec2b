"""Regions: where an organization's files and mail are kept and carried, and how code says where it reaches.

The home region (HOME_REGION) is what the ordinary settings name: STORAGE_URL, MAIL_THROUGH and so on. Every further one
brings its own, as REGIONS__US__STORAGE_URL. PostgreSQL and Redis are one each, at home: docs/compliance/residency.md
says what that means. How code uses them: service.guardrails.residency.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Protocol

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from service.core.setting_types import Copied

NAME = re.compile(r"[a-z][a-z0-9]{0,6}")
KEY = re.compile(rf"({NAME.pattern}):(.+)", re.DOTALL)


class MailThrough(StrEnum):
    SMTP = "smtp"
    SENDGRID = "sendgrid"


class Place(Protocol):
    """What each region has; the settings themselves are one, the home region's."""

    @property
    def storage_url(self) -> str: ...
    @property
    def storage_endpoint(self) -> str: ...
    @property
    def storage_region(self) -> str: ...
    @property
    def storage_access_key(self) -> SecretStr: ...
    @property
    def storage_secret_key(self) -> SecretStr: ...
    @property
    def mail_through(self) -> MailThrough: ...
    @property
    def smtp_url(self) -> SecretStr: ...
    @property
    def sendgrid_api_key(self) -> SecretStr: ...
    @property
    def sendgrid_api_base(self) -> str: ...
    @property
    def model_fields_set(self) -> set[str]: ...


class RegionSettings(BaseModel):
    """A further region. Nothing has a default that leads anywhere: what is forgotten is refused, never sent home."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, coerce_numbers_to_str=True)

    storage_url: str
    storage_endpoint: str = ""
    storage_region: str = ""
    storage_access_key: SecretStr = SecretStr("")
    storage_secret_key: SecretStr = SecretStr("")
    mail_through: MailThrough
    smtp_url: SecretStr = SecretStr("")
    sendgrid_api_key: Copied = SecretStr("")
    sendgrid_api_base: str = Field("", description="Said in full: no region's mail goes through a default address")


def _be_names(value: dict[str, RegionSettings]) -> dict[str, RegionSettings]:
    if wrong := [name for name in value if not NAME.fullmatch(name)]:
        raise ValueError(f"{', '.join(wrong)}: a region's name is at most 7 small letters and digits, like us")
    return value


FurtherRegions = Annotated[dict[str, RegionSettings], AfterValidator(_be_names)]


def in_region(region: str, path: str) -> str:
    """The key of an object: its region, then where it lies there."""
    return f"{region}:{path}"


def split_key(key: str) -> tuple[str | None, str]:
    """Region and path of a key; None for one that was made before there were regions: it lies at home."""
    found = KEY.fullmatch(key)
    return (found[1], found[2]) if found else (None, key)


def store_address(place: Place) -> str:
    """Whom a bucket's region is asked at; of a directory there is nobody to ask."""
    if place.storage_url.startswith("file:"):
        return ""
    return place.storage_endpoint.rstrip("/") or f"https://s3.{place.storage_region}.amazonaws.com"


def bucket_address(place: Place) -> str:
    """Where a bucket itself is: Amazon wants its name in the host's, the compatible ones in the path."""
    bucket = place.storage_url.partition(":")[2].strip("/").partition("/")[0]
    if place.storage_endpoint:
        return f"{store_address(place)}/{bucket}"
    return f"https://{bucket}.s3.{place.storage_region}.amazonaws.com"


@dataclass(frozen=True, slots=True)
class Reach:
    """Which machines a module talks to: those of the organization's region, or the same ones for everybody."""

    regional: bool
    why: str = ""


def by_region() -> Reach:
    """It is told the region, and uses what this one's settings name."""
    return Reach(regional=True)


def everywhere(why: str) -> Reach:
    """One peer for all organizations; `why` says what makes that right."""
    return Reach(regional=False, why=why)
