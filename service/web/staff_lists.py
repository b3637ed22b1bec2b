"""Lists for staff over the rows of all organizations, or of one: the columns are those that the row's model names.

LISTED = Across(File, FileListed)
return await LISTED.page(ctx, wanted, page)
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, Field
from sqlalchemy import Select, Uuid, bindparam, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from service.core.context import Context
from service.core.schemas import Input
from service.guardrails.pagination import Keyset, Page, Position, paginate

M = TypeVar("M", bound=BaseModel)


class Everything(Input):
    """No filters."""


class OfPerson(Input):
    """Whose rows are meant."""

    user_id: UUID | None = Field(None, title="Person", description="Their account's id; empty for all.")


class OfOrganization(Input):
    """Whose rows are meant."""

    organization_id: UUID | None = Field(None, title="Organization", description="Its id; empty for all.")


class People(Generic[M]):
    """Newest first, of everybody or of one person, whose id stands in `person`; needs an index that begins with it."""

    def __init__(self, statement: Select[*tuple[Any, ...]], row: type[M], *, person: Any, key: Any) -> None:
        self._row = row
        mine = statement.where(person == bindparam("user_id"))
        self._all, self._mine = (Keyset(each, order=(key.desc(),)) for each in (statement, mine))

    async def page(self, ctx: Context, wanted: OfPerson, page: Position) -> Page[M]:
        if wanted.user_id is None:
            return await paginate(ctx, self._all, page, self._row)
        return await paginate(ctx, self._mine, page, self._row, user_id=wanted.user_id)


class Across(Generic[M]):
    """Newest first, by `key`; needs an index on (organization_id, key). Deleted rows are among them.

    A filter that names its row (`row`, the value of `key`) finds that one by the key's own index.
    """

    def __init__(self, table: Any, row: type[M], *, key: InstrumentedAttribute[Any] | None = None) -> None:
        self._row = row
        statement = select(*(getattr(table, name) for name in row.model_fields))
        mine = statement.where(table.organization_id == bindparam("organization_id"))
        last = (key if key is not None else table.id).desc()
        whose = bindparam("organization_id", type_=Uuid)
        one = statement.where(
            (key if key is not None else table.id) == bindparam("row"),
            or_(whose.is_(None), table.organization_id == whose),
        )
        self._all, self._mine, self._one = (
            Keyset(each, order=(last,), across_tenants=True, include_deleted=True) for each in (statement, mine, one)
        )

    async def page(self, ctx: Context, wanted: OfOrganization, page: Position, row: object = None) -> Page[M]:
        if row:
            return await paginate(ctx, self._one, page, self._row, row=row, organization_id=wanted.organization_id)
        if wanted.organization_id is None:
            return await paginate(ctx, self._all, page, self._row)
        return await paginate(ctx, self._mine, page, self._row, organization_id=wanted.organization_id)
