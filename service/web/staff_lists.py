"""Lists for staff: over the rows of all organizations or of one, of everybody or of one person, or in the code.

LISTED = Across(File, FileListed)
return await LISTED.page(ctx, wanted, page)

The columns are those that the row's model names.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, Field
from sqlalchemy import Select, Uuid, bindparam, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from service.core.context import Context
from service.core.crypto import BadSignature, sign, unsign
from service.core.schemas import Input
from service.guardrails.pagination import Keyset, Page, Position, not_of_this_list, paginate

M = TypeVar("M", bound=BaseModel)


class OfPerson(Input):
    """Whose rows are meant."""

    user_id: UUID | None = Field(None, title="Person", description="Their account's id; empty for all.")


class OfOrganization(Input):
    """Whose rows are meant."""

    organization_id: UUID | None = Field(None, title="Organization", description="Its id; empty for all.")


class People(Generic[M]):
    """Newest first, of everybody or of one person, whose id stands in `person`; needs an index that begins with it.

    A filter that names its row (`row`, the value of `key`) finds that one.
    """

    def __init__(self, statement: Select[*tuple[Any, ...]], row: type[M], *, person: Any, key: Any) -> None:
        self._row = row
        mine = statement.where(person == bindparam("user_id"))
        whose = bindparam("user_id", type_=Uuid)
        named = statement.where(key == bindparam("row"), or_(whose.is_(None), person == whose))
        self._all, self._mine, self._one = (Keyset(each, order=(key.desc(),)) for each in (statement, mine, named))

    async def page(self, ctx: Context, wanted: OfPerson, page: Position, row: object = None) -> Page[M]:
        if row:
            return await paginate(ctx, self._one, page, self._row, row=row, user_id=wanted.user_id)
        if wanted.user_id is None:
            return await paginate(ctx, self._all, page, self._row)
        return await paginate(ctx, self._mine, page, self._row, user_id=wanted.user_id)


class Across(Generic[M]):
    """Newest first, by `key`; needs an index on (organization_id, key). Deleted rows are among them.

    A filter that names its row (`row`, the value of `one`, or else of `key`) finds that one by the column's own index.
    """

    def __init__(
        self,
        table: Any,
        row: type[M],
        *,
        key: InstrumentedAttribute[Any] | None = None,
        one: InstrumentedAttribute[Any] | None = None,
    ) -> None:
        self._row = row
        statement = select(*(getattr(table, name) for name in row.model_fields))
        mine = statement.where(table.organization_id == bindparam("organization_id"))
        key = table.id if key is None else key
        whose = bindparam("organization_id", type_=Uuid)
        named = statement.where(
            (key if one is None else one) == bindparam("row"),
            or_(whose.is_(None), table.organization_id == whose),
        )
        self._all, self._mine, self._one = (
            Keyset(each, order=(key.desc(),), across_tenants=True, include_deleted=True)
            for each in (statement, mine, named)
        )

    async def page(self, ctx: Context, wanted: OfOrganization, page: Position, row: object = None) -> Page[M]:
        if row:
            return await paginate(ctx, self._one, page, self._row, row=row, organization_id=wanted.organization_id)
        if wanted.organization_id is None:
            return await paginate(ctx, self._all, page, self._row)
        return await paginate(ctx, self._mine, page, self._row, organization_id=wanted.organization_id)


class InCode(Generic[M]):
    """What the code declares, in the order of the rows' names: the pages of any other list, without a table.

    A cursor names the row that its page begins with.
    """

    def __init__(self, title: str, name: Callable[[M], str]) -> None:
        self._binding, self._name = f"{title}|", name

    def page(self, rows: Iterable[M], page: Position) -> Page[M]:
        found = sorted(rows, key=self._name)
        first = bisect_left(found, self._open(page.cursor), key=self._name) if page.cursor else 0
        end = first + page.limit
        return Page(
            items=found[first:end],
            has_more=end < len(found),
            next_cursor=self._cursor(found[end]) if end < len(found) else None,
            previous_cursor=self._cursor(found[max(0, first - page.limit)]) if first else None,
        )

    def _cursor(self, row: M) -> str:
        return sign("cursor", f"{self._binding}{self._name(row)}".encode())

    def _open(self, cursor: str) -> str:
        try:
            known = unsign("cursor", cursor).decode(errors="replace")
        except BadSignature as error:
            raise not_of_this_list() from error
        if not known.startswith(self._binding):
            raise not_of_this_list()
        return known.removeprefix(self._binding)
