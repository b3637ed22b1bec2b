"""What a feature can declare for the staff panel; the package's docstring says how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any
from urllib.parse import quote
from uuid import UUID

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request

from service.core.context import Context
from service.core.errors import NOTHING_HERE, NotFound
from service.core.ids import uuid_in
from service.core.schemas import Input
from service.guardrails.pagination import Page, Position
from service.guardrails.staff_reasons import Reason
from service.web.staff_lists import OfOrganization

HIDDEN = "hidden"
"""What stands where a personal value would, until the reader has said why."""


class Why(Input):
    """The form of an act that asks for nothing but its reason."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    name: str
    link: str = ""
    personal: bool = False
    badges: Mapping[Any, str] = field(default_factory=dict)
    """Kind of badge by value; a value that is not named stands as plain text."""
    kind: str = ""
    """"num" for numbers, "break" for what has no spaces."""

    def value(self, row: Any) -> Any:
        value = getattr(row, self.name)
        return value.value if isinstance(value, Enum) else value

    def text(self, row: Any) -> str:
        """As it stands in the CSV."""
        value = self.value(row)
        if isinstance(value, datetime):
            return value.isoformat()
        return "" if value is None else str(value)

    def href(self, row: Any) -> str:
        known = {name: quote(str(value), safe="") for name, value in row if value is not None}
        return self.link.format(**known) if self.link and all(known.get(name) for name in _names_in(self.link)) else ""


@dataclass(frozen=True, slots=True)
class Listing:
    path: str
    title: str
    query: Callable[[Context, Any, Position], Any]
    columns: tuple[Column, ...]
    wanted: type[Input]
    lead: str = ""
    empty: tuple[str, str] = ("Nothing here", "Nothing fits these filters. Widen or clear them.")
    order: int = 50
    item: str = "row_id"
    """What the id of a row is called in addresses."""
    tabs: tuple[tuple[str, str], ...] = ()
    """What stands beside it: (title, address), this one among them."""
    on_home: bool = True
    """Whether the home leads to it, or only another page."""

    @property
    def is_personal(self) -> bool:
        return any(column.personal for column in self.columns)

    def tells_whose(self, wanted: Input) -> bool:
        """Whether what is found tells whose it is: a search for any words but an id, among personal data."""
        sought = [value for _, value in wanted if isinstance(value, str) and not isinstance(value, Enum)]
        return self.is_personal and any(value and uuid_in(value) is None for value in sought)

    async def read(self, ctx: Context, wanted: Input, page: Position) -> Page[Any]:
        found: Page[Any] = await self.query(ctx, wanted, page)
        return found


ORGANIZATION = Column("Organization", "organization_id", link="/staff/organizations/{organization_id}", kind="break")


def of_organizations(
    path: str,
    title: str,
    query: Callable[[Context, Any, Position], Any],
    first: Column,
    *columns: Column,
    lead: str,
    order: int,
    wanted: type[Input] = OfOrganization,
) -> Listing:
    """What organizations have, of all or of one (staff_lists.Across): whose it is stands beside what it is."""
    empty = "None", "No organization has any, or none has the ids that you gave."
    return Listing(path, title, query, (first, ORGANIZATION, *columns), wanted, lead, empty, order)


def always(_: Any) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Detail:
    of: str
    title: str
    query: Callable[[Context, Any], Any]
    template: str
    account: Callable[[Any], UUID] | None = None
    """Whose account it is about: looks at it then stand among what was done to that account."""
    key: Any = UUID
    personal: Callable[[Any], bool] = always
    """Whether this one has anything to hide."""


@dataclass(frozen=True, slots=True)
class Act:
    of: str
    name: str
    title: str
    verb: Callable[..., Any]
    form: type[Input] = Why
    hint: str = ""
    done: str | Callable[[Any], str] = "Done."
    """What is said afterwards; a function is given what the verb has answered."""
    danger: bool = False
    whole: bool = False
    applies: Callable[[Any], bool] = always
    offered: bool = True
    """Whether it stands among the acts; what does not is linked to from the page itself."""
    answer: Callable[..., Any] | None = None
    key: Any = UUID

    def path(self, row_id: Any = None) -> str:
        return f"{self.of}/{self.name}" if self.whole else f"{self.of}/{row_id}/{self.name}"


Declared = Listing | Detail | Act


def identify(kind: Any, request: Request) -> Any:
    """The id in the request's address; what cannot be one is a page that is not there."""
    try:
        return TypeAdapter(kind).validate_python(next(iter(request.path_params.values())))
    except ValidationError as error:
        raise NotFound(NOTHING_HERE) from error


def _names_in(link: str) -> list[str]:
    return [part.partition("}")[0] for part in link.split("{")[1:]]
