"""One form per kind, what each of them wants, and what the pages show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BeforeValidator, Field, SecretStr, StringConstraints, ValidationInfo, field_validator

from service.core.schemas import Input, Output
from service.features.sources.models import Kind

MOST_QUOTES = 5
MOST_KEY = 300

Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$"), BeforeValidator(lambda given: str(given).upper())]
# Part of an address: a name of dots alone would lead somewhere else there.
REPOSITORY = r"^[A-Za-z0-9-]{1,39}/[A-Za-z0-9._-]*[A-Za-z0-9_-][A-Za-z0-9._-]*$"
Repository = Annotated[str, StringConstraints(pattern=REPOSITORY, max_length=140)]
Site = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(/[a-z0-9._/-]*)?$", max_length=150),
    BeforeValidator(lambda given: str(given).lower().removeprefix("https://").removeprefix("http://").rstrip("/")),
]


@dataclass(frozen=True, slots=True)
class Series:
    """One number of a source, and the indicator that it becomes."""

    key: str
    name: str
    unit: str
    about: str


@dataclass(frozen=True, slots=True)
class Wish:
    """A source as somebody wants it."""

    kind: Kind
    target: str
    config: Mapping[str, Any]
    series: tuple[Series, ...]
    key: str = field(default="", repr=False)


def visible(key: SecretStr) -> SecretStr:
    """A key with a line break in it would end the header that carries it; one that was cut off is of no use."""
    if not all("!" <= character <= "~" for character in key.get_secret_value()):
        raise ValueError("must be letters, digits and signs without spaces; copy it again")
    return key


class RatesForm(Input):
    base: Currency = Field(title="From", description="Three letters, for example EUR.")
    quotes: str = Field(title="To", description="Up to five currencies, for example USD, GBP.", max_length=60)

    @field_validator("quotes")
    @classmethod
    def be_currencies(cls, given: str) -> str:
        codes = list(dict.fromkeys(given.upper().replace(",", " ").split()))
        if not 1 <= len(codes) <= MOST_QUOTES or not all(
            len(code) == 3 and code.isascii() and code.isalpha() for code in codes
        ):
            raise ValueError(f"must be one to {MOST_QUOTES} codes of three letters, for example USD, GBP")
        return ", ".join(codes)

    @field_validator("quotes")
    @classmethod
    def differ(cls, given: str, info: ValidationInfo) -> str:
        others = [code for code in given.split(", ") if code != info.data.get("base")]
        if not others:
            raise ValueError("must name another currency than the first")
        return ", ".join(others)

    def wish(self) -> Wish:
        codes = self.quotes.split(", ")
        series = tuple(
            Series(code, f"{self.base} to {code}", code, "Daily reference rate of the European Central Bank")
            for code in codes
        )
        config = {"base": self.base, "quotes": codes}
        return Wish(Kind.RATES, f"{self.base} to {', '.join(codes)}", config, series)


class KeyForm(Input):
    """Other credentials for a source; empty takes them away."""

    key: Annotated[SecretStr, Field(max_length=MOST_KEY)] = Field(SecretStr(""), title="Key or token")

    check = field_validator("key")(visible)


class GitHubForm(KeyForm):
    repository: Repository = Field(title="Repository", description="Owner and name, for example northwind/storefront.")
    key: Annotated[SecretStr, Field(max_length=MOST_KEY)] = Field(
        SecretStr(""),
        title="Token",
        description="Without one, a public repository shares 60 questions an hour with all others.",
    )

    def wish(self) -> Wish:
        name = self.repository
        series = (
            Series("stars", f"{name} stars", "stars", "People who starred the repository"),
            Series("issues", f"{name} open issues", "issues", "Open issues and pull requests"),
        )
        return Wish(Kind.GITHUB, name, {"repository": name}, series, self.key.get_secret_value())


class PlausibleForm(KeyForm):
    site: Site = Field(title="Site", description="As it is called in Plausible, for example northwind.example.")
    key: Annotated[SecretStr, Field(min_length=1, max_length=MOST_KEY)] = Field(
        title="API key", description="A key for the Stats API, from your Plausible settings."
    )

    def wish(self) -> Wish:
        series = (
            Series("visitors", f"{self.site} visitors", "people", "Unique visitors per day"),
            Series("pageviews", f"{self.site} page views", "views", "Page views per day"),
        )
        return Wish(Kind.PLAUSIBLE, self.site, {"site": self.site}, series, self.key.get_secret_value())


FORMS: dict[Kind, type[RatesForm | GitHubForm | PlausibleForm]] = {
    Kind.RATES: RatesForm,
    Kind.GITHUB: GitHubForm,
    Kind.PLAUSIBLE: PlausibleForm,
}
ABOUT = {
    Kind.RATES: "The European Central Bank's reference rates, each working day. Needs no key.",
    Kind.GITHUB: "Stars and open issues of a repository, each hour. Public ones need no token, but wait less with one.",
    Kind.PLAUSIBLE: "Visitors and page views per day, from Plausible Analytics. Needs an API key.",
}


class SourceRead(Output):
    id: UUID
    kind: Kind
    target: str
    keyed: bool
    paused_at: datetime | None
    next_pull_at: datetime
    rest_until: datetime | None
    failures: int
    trouble: str
    tried_at: datetime | None
    ok_at: datetime | None

    @property
    def state(self) -> tuple[str, str]:
        """(words, colour) of its badge."""
        if self.paused_at is not None:
            return ("Stopped", "danger") if self.trouble else ("Paused", "")
        if self.trouble:
            return "Not answering" if self.failures else "Waiting" if self.rest_until else "Needs attention", "warning"
        return ("Up to date", "success") if self.ok_at else ("First reading is on its way", "")


class DeletedSourceRead(Output):
    id: UUID
    kind: Kind
    target: str
    deleted_at: datetime


class FedRead(Output):
    """An indicator that a source feeds; without a name it is in the bin."""

    indicator_id: UUID
    name: str | None
    unit: str | None
    latest_value: float | None
    latest_at: datetime | None
    archived_at: datetime | None


class RunRead(Output):
    id: UUID
    at: datetime
    outcome: str
    added: int
    took_ms: int
    detail: str


class SourceListed(Output):
    """A source, as staff see it in the list."""

    id: UUID
    organization_id: UUID
    kind: str
    failures: int
    ok_at: datetime | None
    paused_at: datetime | None
    deleted_at: datetime | None
