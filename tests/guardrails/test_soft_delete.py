"""Deleting hides from every path, restoring brings back exactly one deletion, and only the purge removes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete, event, exists, func, literal, select, text, union_all, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import aliased, immediateload, joinedload, selectinload, subqueryload

from service.core import clock, statements
from service.core.database import GuardedSession, UnitOfWork
from service.core.errors import Conflict, NotFound
from service.core.ids import new_id
from service.core.statements import Prepared
from service.guardrails import soft_delete
from tests.guardrails.playground import Box, Item, Label, Mark, Playground

LIVE_NAME, DEAD_NAME = "live", "dead"


@pytest.fixture
async def tenant(playground: Playground) -> UUID:
    return await playground.organization()


async def plant(playground: Playground, tenant: UUID, name: str, items: int = 0) -> UUID:
    """A box with so many items, each with a label."""
    box = Box(id=new_id(), name=name)
    async with playground.context(tenant) as ctx:
        ctx.add(box)
        await ctx.db.flush()
        for number in range(items):
            item = Item(id=new_id(), box_id=box.id, name=f"{name} {number}")
            ctx.add(item)
            await ctx.db.flush()
            ctx.add(Label(item_id=item.id))
    return box.id


async def hide(playground: Playground, tenant: UUID, box: UUID) -> dict[str, Any]:
    async with playground.context(tenant) as ctx:
        await soft_delete.delete(ctx, await ctx.get(Box, box))
        return ctx.facts


async def live(playground: Playground, table: str, tenant: UUID) -> int:
    return await playground.count(table, "organization_id = $1 AND deleted_at IS NULL", tenant)


@contextmanager
def without_filter() -> Iterator[None]:
    """The guard rail removed; nothing stands behind it."""
    event.remove(GuardedSession, "do_orm_execute", soft_delete._filter_orm)
    statements.read_criteria.remove(soft_delete._filter_prepared)
    try:
        yield
    finally:
        event.listen(GuardedSession, "do_orm_execute", soft_delete._filter_orm)
        statements.read_criteria.append(soft_delete._filter_prepared)


_other = aliased(Box)
_inside = select(Item.name).where(Item.box_id == Box.id).lateral("inside")
READS: dict[str, Any] = {
    "columns": select(Box.name, Box.rank),
    "alias": select(_other.name),
    "alias of subquery": select(aliased(Box, select(Box).subquery()).name),
    "join": select(Box.name, Item.name).join(Item, Item.box_id == Box.id),
    "self join": select(_other.name).join(Box, Box.organization_id == _other.organization_id),
    "outer join": select(Item.name, Box.name).outerjoin(Box, Box.id == Item.box_id),
    "relationship join": select(Item.name).join(Item.box),
    "subquery": select(select(Box.name).subquery().c.name),
    "cte": select(select(Box.name).cte("found").c.name),
    "union": select(union_all(select(Box.name), select(Item.name)).subquery().c.name),
    "scalar subquery": select(select(func.array_agg(Box.name)).scalar_subquery()),
    "in": select(Item.name).where(Item.box_id.in_(select(Box.id))),
    "exists": select(Item.name).where(exists().where(Box.id == Item.box_id)),
    "lateral": select(_inside.c.name).join_from(Box, _inside, literal(True)),
    "aggregate": select(func.array_agg(Box.name)),
}


async def words(work: UnitOfWork, path: str, *, prepared: bool, include_deleted: bool = False) -> str:
    if prepared:
        return repr([tuple(row) for row in await work.fetch(Prepared(READS[path], include_deleted=include_deleted))])
    options = {"include_deleted": include_deleted}
    return repr((await work.session.execute(READS[path], execution_options=options)).all())


@pytest.fixture(scope="module")
async def one_of_each(playground: Playground) -> UUID:
    """An organization with a live and a deleted box, an item in each."""
    tenant = await playground.organization()
    await plant(playground, tenant, LIVE_NAME, 1)
    await hide(playground, tenant, await plant(playground, tenant, DEAD_NAME, 1))
    return tenant


@pytest.mark.parametrize("prepared", [False, True], ids=["orm", "prepared"])
@pytest.mark.parametrize("path", READS)
async def test_deleted_rows_are_nowhere_but_in_the_bin(
    playground: Playground, one_of_each: UUID, path: str, prepared: bool
) -> None:
    async with playground.database.unit_of_work(tenant=one_of_each, read_only=True) as work:
        found = await words(work, path, prepared=prepared)
        assert LIVE_NAME in found
        assert DEAD_NAME not in found
        assert DEAD_NAME in await words(work, path, prepared=prepared, include_deleted=True)
        with without_filter():
            assert DEAD_NAME in await words(work, path, prepared=prepared), "it bites"


@pytest.mark.parametrize("load", [selectinload, joinedload, subqueryload, immediateload])
async def test_loaded_relationships_leave_deleted_rows_out(playground: Playground, tenant: UUID, load: Any) -> None:
    await plant(playground, tenant, "box", 2)
    async with playground.context(tenant) as ctx:
        gone = (await ctx.db.scalars(select(Item).order_by(Item.id).limit(1))).one()
        await soft_delete.delete(ctx, gone)
    async with playground.context(tenant) as ctx:
        box = (await ctx.db.execute(select(Box).options(load(Box.items)))).unique().scalars().one()
        assert [item.name for item in box.items] == ["box 1"]


async def test_relationships_of_a_new_object_leave_deleted_rows_out(playground: Playground, tenant: UUID) -> None:
    """What was made here and not loaded by a filtered query hands no filter on to its loaders."""
    async with playground.context(tenant) as ctx:
        box = Box(id=new_id(), name="box")
        ctx.add(box)
        await ctx.db.flush()
        kept, gone = Item(box_id=box.id, name="kept"), Item(box_id=box.id, name="gone")
        ctx.db.add_all([kept, gone])
        await ctx.db.flush()
        await soft_delete.delete(ctx, gone)
        await ctx.db.flush()
        await ctx.db.refresh(box, ["items"])
        assert [item.name for item in box.items] == ["kept"]


async def test_get_finds_no_deleted_row_even_when_the_session_knows_it(
    playground: Playground, one_of_each: UUID
) -> None:
    async with playground.context(one_of_each) as ctx:
        bin_ = select(Box).where(Box.deleted_at.is_not(None)).execution_options(include_deleted=True)
        dead = (await ctx.db.scalars(bin_)).one()
        with pytest.raises(NotFound):
            await ctx.get(Box, dead.id)


async def test_bulk_changes_leave_deleted_rows_alone(playground: Playground, one_of_each: UUID) -> None:
    async with playground.context(one_of_each) as ctx:
        await ctx.db.execute(update(Box).values(rank=7))
        assert await ctx.db.scalar(text("SELECT count(*) FROM boxes WHERE rank = 7")) == 1
        await ctx.work.abandon()


async def test_the_application_cannot_delete_for_good(playground: Playground, one_of_each: UUID) -> None:
    async with playground.context(one_of_each) as ctx:
        with pytest.raises(DBAPIError, match="permission denied"):
            await ctx.db.execute(delete(Box))
        await ctx.work.abandon()


async def test_children_go_and_return_with_their_parent(playground: Playground, tenant: UUID) -> None:
    await plant(playground, tenant, "kept", 1)
    box = await plant(playground, tenant, "box", 3)
    facts = await hide(playground, tenant, box)
    assert facts == {"items": 3, "labels": 3}, "the audit trail is told how much went"
    assert [await live(playground, table, tenant) for table in ("boxes", "items", "labels")] == [1, 1, 1]
    async with playground.context(tenant) as ctx:
        restored = await soft_delete.restore(ctx, Box, box)
        assert (restored.deleted_at, restored.deleted_by, restored.deletion_id) == (None, None, None)
    assert [await live(playground, table, tenant) for table in ("boxes", "items", "labels")] == [2, 4, 4]


async def test_restore_leaves_what_had_been_deleted_before(playground: Playground, tenant: UUID) -> None:
    box = await plant(playground, tenant, "box", 3)
    async with playground.context(tenant) as ctx:
        earlier = (await ctx.db.scalars(select(Item).limit(1))).one()
        await soft_delete.delete(ctx, earlier)
    await hide(playground, tenant, box)
    async with playground.context(tenant) as ctx:
        await soft_delete.restore(ctx, Box, box)
    assert [await live(playground, table, tenant) for table in ("items", "labels")] == [2, 2]
    async with playground.context(tenant) as ctx:
        await soft_delete.restore(ctx, Item, earlier.id)
    assert [await live(playground, table, tenant) for table in ("items", "labels")] == [3, 3]


async def test_a_child_does_not_return_before_its_parent(playground: Playground, tenant: UUID) -> None:
    box = await plant(playground, tenant, "box", 1)
    await hide(playground, tenant, box)
    item = await playground.superuser.fetchval("SELECT id FROM items WHERE box_id = $1", box)
    async with playground.context(tenant) as ctx:
        with pytest.raises(Conflict, match="box this belongs to is in the bin") as refusal:
            await soft_delete.restore(ctx, Item, item)
    assert "Restore the box first" in refusal.value.mend


async def test_restore_into_a_taken_place_is_a_conflict_with_a_way_out(playground: Playground, tenant: UUID) -> None:
    old = await plant(playground, tenant, "same")
    await hide(playground, tenant, old)
    await plant(playground, tenant, "same")
    async with playground.context(tenant) as ctx:
        with pytest.raises(Conflict) as refusal:
            await soft_delete.restore(ctx, Box, old)
        await ctx.work.abandon()
    assert refusal.value.status == 409
    assert refusal.value.fields == {"name": "is taken by a live one"}
    assert "Change the name of the live one or delete it" in refusal.value.mend
    async with playground.context(tenant) as ctx:
        assert (await soft_delete.restore(ctx, Box, old, name="same, restored")).name == "same, restored"


@pytest.mark.parametrize("why", ["random", "live", "foreign", "too late"])
async def test_what_cannot_be_restored_is_not_found(playground: Playground, tenant: UUID, why: str) -> None:
    box = await plant(playground, tenant, "box")
    asking = tenant
    if why != "live":
        await hide(playground, tenant, box)
    if why == "foreign":
        asking = await playground.organization()
    if why == "too late":
        clock.advance(timedelta(days=30, seconds=1))
    async with playground.context(asking) as ctx:
        with pytest.raises(NotFound):
            await soft_delete.restore(ctx, Box, new_id() if why == "random" else box)


async def test_a_row_is_deleted_once(playground: Playground, tenant: UUID) -> None:
    """Two people press the button at once: one deletion, one 404, and one restore brings everything back."""
    box = await plant(playground, tenant, "box", 2)
    answers = await asyncio.gather(*(hide(playground, tenant, box) for _ in range(2)), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["NotFound", "dict"]
    async with playground.context(tenant) as ctx:
        await soft_delete.restore(ctx, Box, box)
    assert [await live(playground, table, tenant) for table in ("boxes", "items")] == [1, 2]


async def test_a_row_is_restored_once(playground: Playground, tenant: UUID) -> None:
    box = await plant(playground, tenant, "box", 1)
    await hide(playground, tenant, box)
    ready = asyncio.Event()

    async def first() -> None:
        async with playground.context(tenant) as ctx:
            await soft_delete.restore(ctx, Box, box)
            ready.set()
            await playground.until_somebody_waits()

    async def second() -> None:
        await ready.wait()
        async with playground.context(tenant) as ctx:
            await soft_delete.restore(ctx, Box, box, name="renamed by the second")

    answers = await asyncio.gather(first(), second(), return_exceptions=True)
    assert [type(answer).__name__ for answer in answers] == ["NoneType", "NotFound"]


async def add_while_deleting(playground: Playground, tenant: UUID, box: UUID, *, lock: bool) -> Any:
    """One person deletes the box while another adds to it; what the second one gets.

    Both wait in the end (the foreign key locks the parent too), but only `ctx.get` looks again after waiting.
    """
    ready = asyncio.Event()

    async def remove() -> None:
        async with playground.context(tenant) as ctx:
            await soft_delete.delete(ctx, await ctx.get(Box, box))
            ready.set()
            await playground.until_somebody_waits()

    async def add_item() -> None:
        await ready.wait()
        async with playground.context(tenant) as ctx:
            await ctx.get(Box, box, lock=lock)
            ctx.add(Item(box_id=box))

    return (await asyncio.gather(remove(), add_item(), return_exceptions=True))[1]


async def test_no_child_is_born_under_a_parent_that_is_being_deleted(playground: Playground, tenant: UUID) -> None:
    box = await plant(playground, tenant, "box")
    assert isinstance(await add_while_deleting(playground, tenant, box, lock=True), NotFound)
    assert await playground.count("items", "box_id = $1", box) == 0


async def test_it_bites_without_the_parents_lock_an_orphan_is_born(playground: Playground, tenant: UUID) -> None:
    box = await plant(playground, tenant, "box")
    assert await add_while_deleting(playground, tenant, box, lock=False) is None
    assert await playground.count("items", "box_id = $1 AND deleted_at IS NULL", box) == 1


async def test_rows_that_are_not_soft_deleted_themselves_stay_as_they_are(playground: Playground, tenant: UUID) -> None:
    box = await plant(playground, tenant, "box")
    async with playground.context(tenant) as ctx:
        ctx.add(Mark(box_id=box, at=clock.now()))
    await hide(playground, tenant, box)
    assert await playground.count("marks", "box_id = $1", box) == 1
    async with playground.context(tenant) as ctx:
        await soft_delete.restore(ctx, Box, box)


async def test_the_bin_has_an_index_of_its_own(playground: Playground) -> None:
    found = await playground.superuser.fetchval(
        "SELECT indexdef FROM pg_indexes WHERE indexname = 'ix_boxes_organization_id_deleted_at_id'"
    )
    assert found.endswith("(organization_id, deleted_at, id) WHERE (deleted_at IS NOT NULL)")
