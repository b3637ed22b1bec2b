"""Deleting hides; restoring brings back exactly what one deletion hid; only a purge removes.

Protects from: the deleted account, invoice or indicator that somebody wants back next month. How to use: inherit
`SoftDeletable`; call `delete` and `restore` in actions; children that carry `after_deletion(..., part_of=...)` or
`with_parent(...)` (guardrails.retention) and are themselves `SoftDeletable` go and return with their parent. Every ORM
statement and every prepared read leaves deleted rows out, unless its definition says `include_deleted=True`.

Limits: there is no second wall: text and Core statements see deleted rows (row-level security for deletion would make
the very UPDATE that deletes fail). Uniqueness among live rows is a partial unique index, `WHERE deleted_at IS NULL`.
Whoever adds a child must hold the parent's lock (`ctx.get`), or it is born under a parent that is being deleted.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Index, Table, event, select, tuple_, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Mapper, ORMExecuteState, mapped_column, with_loader_criteria
from sqlalchemy.orm.util import LoaderCriteriaOption

from service.core import clock
from service.core.context import Context
from service.core.database import GuardedSession
from service.core.errors import Conflict, NotFound
from service.core.ids import new_id
from service.core.statements import Prepared, read_criteria
from service.guardrails.personal_data import internal, pointer
from service.guardrails.retention import declared_parts, retention_of

UNIQUE_VIOLATION = "23505"
EVERYTHING = {"include_deleted": True}


class SoftDeletable:
    """Mixin for rows that go to the bin first. `deletion_id` names the one deletion that hid this row and others; a
    deleted row without one was discarded."""

    __table__: ClassVar[Any]
    __mapper__: ClassVar[Mapper[Any]]

    deleted_at: Mapped[datetime | None] = mapped_column(default=None, info=internal())
    deleted_by: Mapped[UUID | None] = mapped_column(default=None, info=pointer())
    deletion_id: Mapped[UUID | None] = mapped_column(default=None, info=internal())


D = TypeVar("D", bound=SoftDeletable)


async def delete(ctx: Context, thing: SoftDeletable) -> None:
    """Hide a row (loaded by `ctx.get`, so it is locked) and the live rows that are part of it."""
    if thing.deleted_at is not None:
        raise NotFound(f"There is no such {_noun(type(thing))}.")
    thing.deleted_at, thing.deleted_by, thing.deletion_id = clock.now(), ctx.person_id, new_id()
    marks = {"deleted_at": thing.deleted_at, "deleted_by": thing.deleted_by, "deletion_id": thing.deletion_id}
    await ctx.db.flush()
    for part, belongs in _parts_in_batch(thing, thing.deletion_id):
        await _change(ctx, part, (belongs, part.deleted_at.is_(None)), marks)


async def restore(ctx: Context, model: type[D], identifier: UUID, **changes: Any) -> D:
    """Bring back a row and what was deleted together with it, with `changes` (say, another name) applied first.

    Raises NotFound when it is not in the bin or its time there is over, Conflict when its parent is deleted or a live
    row has taken its place. What had been deleted before, by itself, stays in the bin.
    """
    columns = model.__table__.c
    wanted = select(model).where(columns.id == identifier, columns.deleted_at.is_not(None)).with_for_update()
    thing = (await ctx.db.execute(wanted, execution_options=EVERYTHING)).scalar_one_or_none()
    rule = retention_of(model.__table__)
    days = rule.days if rule else None
    if thing is None or thing.deleted_at is None or thing.deletion_id is None:
        raise NotFound(f"There is no such {_noun(model)} in the bin.")
    if days is not None and thing.deleted_at <= clock.now() - timedelta(days=days):
        # A purge may be under way: what it has begun to remove must not come back as a half.
        raise NotFound(f"This {_noun(model)} was in the bin for more than {days} days and cannot be restored.")
    await _insist_on_a_live_parent(ctx, thing)
    unmarks = {"deleted_at": None, "deleted_by": None, "deletion_id": None}
    try:
        for part, belongs in reversed(list(_parts_in_batch(thing, thing.deletion_id))):
            await _change(ctx, part, (belongs, part.deletion_id == thing.deletion_id), unmarks)
        for name, value in {**changes, **unmarks}.items():
            setattr(thing, name, value)
        await ctx.db.flush()
    except IntegrityError as error:
        if getattr(error.orig, "sqlstate", "") != UNIQUE_VIOLATION:
            raise
        raise _taken(model, error) from error
    return thing


async def discard(ctx: Context, model: type[D], identifier: UUID) -> D:
    """Out of the bin before its time: nobody restores it, and the next purge removes it with all that is part of it.

    A legal hold still keeps the rows. Raises NotFound when it is not in the bin.
    """
    columns = model.__table__.c
    wanted = select(model).where(columns.id == identifier, columns.deletion_id.is_not(None)).with_for_update()
    thing = (await ctx.db.execute(wanted, execution_options=EVERYTHING)).scalar_one_or_none()
    rule = retention_of(model.__table__)
    if thing is None or rule is None or rule.days is None:
        raise NotFound(f"There is no such {_noun(model)} in the bin.")
    thing.deletion_id, thing.deleted_at = None, clock.now() - timedelta(days=rule.days + 1)
    await ctx.db.flush()
    return thing


def _parts_in_batch(thing: SoftDeletable, batch: UUID) -> Iterator[tuple[type[SoftDeletable], ColumnElement[bool]]]:
    """Each soft-deletable model below `thing`, parents first, with the condition that finds its rows of this batch."""
    models = _models(thing)
    own = thing.__table__.c.id == thing.id  # type: ignore[attr-defined]
    below: list[tuple[Table, ColumnElement[bool]]] = [(thing.__table__, own)]
    for whole, found in below:
        for part, key in declared_parts(whole):
            if part not in models:
                continue  # not marked: it is reached through its parent only, and purged with it
            parents = select(*(element.column for element in key.elements)).where(found, whole.c.deletion_id == batch)
            belongs = tuple_(*key.columns).in_(parents)
            below.append((part, belongs))
            yield models[part], belongs


async def _change(ctx: Context, part: Any, where: tuple[ColumnElement[bool], ...], values: dict[str, Any]) -> None:
    done: Any = await ctx.db.execute(update(part).where(*where).values(values), execution_options=EVERYTHING)
    if done.rowcount:
        # The audit trail sees single objects; a batch is told in numbers.
        ctx.facts[part.__tablename__] = ctx.facts.get(part.__tablename__, 0) + done.rowcount


async def _insist_on_a_live_parent(ctx: Context, thing: SoftDeletable) -> None:
    for table, model in _models(thing).items():
        for part, key in declared_parts(table):
            if part is not thing.__table__:
                continue
            same = [element.column == getattr(thing, element.parent.key) for element in key.elements]
            parent = select(model).where(*same).with_for_update(read=True)
            if (await ctx.db.execute(parent)).scalar_one_or_none() is None:
                noun = _noun(model)
                raise Conflict(f"The {noun} this belongs to is in the bin.", mend=f"Restore the {noun} first.")


def _models(thing: SoftDeletable) -> dict[Table, type[SoftDeletable]]:
    mappers = type(thing).__mapper__.registry.mappers
    return {mapper.local_table: mapper.class_ for mapper in mappers if issubclass(mapper.class_, SoftDeletable)}  # type: ignore[misc]


def _taken(model: type[SoftDeletable], error: IntegrityError) -> Conflict:
    name = getattr(getattr(error.orig, "__cause__", None), "constraint_name", "")
    index: Index | None = next((index for index in model.__table__.indexes if index.name == name), None)
    fields = [column.name for column in index.columns if column.name != "organization_id"] if index is not None else []
    what = " and ".join(fields) or "identity"
    return Conflict(
        f"Something live has taken the {what} of this {_noun(model)}.",
        mend=f"Change the {what} of the live one or delete it, then restore again; or leave this one in the bin.",
        fields=dict.fromkeys(fields, "is taken by a live one"),
    )


def _noun(model: type) -> str:
    return model.__name__.lower()


LIVE = with_loader_criteria(SoftDeletable, lambda cls: cls.deleted_at.is_(None), include_aliases=True)


def _filter_orm(state: ORMExecuteState) -> None:
    """Leave deleted rows out of every SELECT, UPDATE and DELETE the ORM runs, eager and lazy loads included."""
    if not state.is_column_load and not state.execution_options.get("include_deleted"):
        state.statement = state.statement.options(LIVE)


def _filter_prepared(statement: Prepared) -> LoaderCriteriaOption | None:
    return None if statement.include_deleted else LIVE


@event.listens_for(SoftDeletable, "after_mapper_constructed", propagate=True)
def _index_the_bin(mapper: Mapper[Any], _: type) -> None:
    """A small index of the deleted rows alone: the bin's page and the purge read it, live rows pay nothing for it."""
    columns = mapper.local_table.c
    leading = [columns.organization_id] if "organization_id" in columns else []
    Index(None, *leading, columns.deleted_at, columns.id, postgresql_where=columns.deleted_at.is_not(None))


event.listen(GuardedSession, "do_orm_execute", _filter_orm)
read_criteria.append(_filter_prepared)
