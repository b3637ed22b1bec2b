"""No organization sees another's rows: the automatic filter, and behind it row-level security."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import delete, event, exists, func, insert, literal, select, text, union_all, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import aliased, immediateload, joinedload, selectinload, subqueryload

from service.core import statements
from service.core.context import Context
from service.core.database import Database, GuardedSession, UnitOfWork
from service.core.errors import NotFound
from service.core.ids import new_id
from service.core.statements import Prepared, PreparedText
from service.guardrails import tenancy
from tests.conftest import TestServers
from tests.guardrails.playground import TABLES, Box, Item, Playground


class Neighbours(NamedTuple):
    """Two organizations with one box and one item each; an item of theirs lies in my box, which no key allows."""

    mine: UUID
    theirs: UUID
    my_box: UUID
    their_box: UUID


@pytest.fixture(scope="module")
async def neighbours(playground: Playground) -> Neighbours:
    tenants, boxes = [await playground.organization() for _ in range(2)], []
    for tenant in tenants:
        async with playground.context(tenant) as ctx:
            box = Box(name="box")
            ctx.add(box)
            await ctx.db.flush()
            ctx.add(Item(box_id=box.id, name="item"))
            boxes.append(box.id)
    async with playground.superuser.transaction():
        await playground.superuser.execute("SET LOCAL session_replication_role = replica")
        await playground.superuser.execute(
            "INSERT INTO items (id, organization_id, box_id, name) VALUES ($1, $2, $3, 'stray')",
            new_id(), tenants[1], boxes[0],
        )  # fmt: skip
    return Neighbours(*tenants, *boxes)


@pytest.fixture(scope="module")
async def unwalled(playground: Playground, servers: TestServers, worker_name: str) -> AsyncIterator[Database]:
    """The same database as the superuser sees it: row-level security is off, the filter stands alone."""
    url = servers.postgres.url("postgres", f"playground_{worker_name}")
    database = Database(url, playground.resources.settings, name="unwalled", size=1)
    yield database
    await database.dispose()


@contextmanager
def without_filter() -> Iterator[None]:
    """The guard rail removed, as if somebody had forgotten it."""
    event.remove(GuardedSession, "do_orm_execute", tenancy._filter_orm)
    statements.read_criteria.remove(tenancy._filter_prepared)
    try:
        yield
    finally:
        event.listen(GuardedSession, "do_orm_execute", tenancy._filter_orm)
        statements.read_criteria.append(tenancy._filter_prepared)


ORGANIZATION = Box.organization_id
_other = aliased(Box)
_inside = select(Item.organization_id).where(Item.box_id == Box.id).lateral("inside")
_chain = select(Box.id, ORGANIZATION).cte("chain", recursive=True)

# Each answers with the organizations of the rows it has read, so a foreign one shows itself.
READS: dict[str, Any] = {
    "columns": select(ORGANIZATION, Box.name),
    "distinct": select(ORGANIZATION).distinct(),
    "alias": select(_other.organization_id),
    "alias of subquery": select(aliased(Box, select(Box).subquery()).organization_id),
    "join": select(ORGANIZATION, Item.organization_id).join(Item, Item.box_id == Box.id),
    "join on true": select(Item.organization_id).join(Box, literal(True)),
    "self join": select(ORGANIZATION, _other.organization_id).join(_other, _other.name == Box.name),
    "outer join": select(ORGANIZATION, Item.organization_id).outerjoin(Item, literal(True)),
    "comma join": select(Item.organization_id).where(Item.box_id == Box.id),
    "relationship join": select(Item.organization_id).join(Item.box),
    "subquery": select(select(ORGANIZATION).subquery().c.organization_id),
    "cte": select(select(ORGANIZATION).cte("found").c.organization_id),
    "recursive cte": select(
        _chain.union_all(select(Box.id, ORGANIZATION).join(_chain, literal(False))).c.organization_id
    ),
    "union": select(union_all(select(ORGANIZATION), select(Item.organization_id)).subquery().c.organization_id),
    "scalar subquery": select(select(func.array_agg(ORGANIZATION)).scalar_subquery()),
    "lateral": select(_inside.c.organization_id).join_from(Box, _inside, literal(True)),
    "window": select(ORGANIZATION, func.row_number().over(order_by=Box.id)),
    "aggregate": select(func.array_agg(ORGANIZATION)),
}


def organizations(rows: Any) -> set[UUID]:
    cells = [cell for row in rows for value in row for cell in (value if isinstance(value, list) else [value])]
    return {cell for cell in cells if isinstance(cell, UUID)}


async def read(work: UnitOfWork, path: str, *, prepared: bool) -> set[UUID]:
    if prepared:
        return organizations(await work.fetch(Prepared(READS[path])))
    return organizations((await work.session.execute(READS[path])).all())


@pytest.mark.parametrize("prepared", [False, True], ids=["orm", "prepared"])
@pytest.mark.parametrize("path", READS)
async def test_filter_alone_keeps_foreign_rows_out(
    unwalled: Database, neighbours: Neighbours, path: str, prepared: bool
) -> None:
    async with unwalled.unit_of_work(tenant=neighbours.mine) as work:
        assert await read(work, path, prepared=prepared) == {neighbours.mine}
        if path != "lateral":  # the stray item, taken by its own organization
            await work.act_for(tenant=neighbours.theirs, user=None)
            assert neighbours.mine not in await read(work, path, prepared=prepared)
        await work.act_for(tenant=None, user=None)
        assert await read(work, path, prepared=prepared) == set()


@pytest.mark.parametrize("prepared", [False, True], ids=["orm", "prepared"])
@pytest.mark.parametrize("path", READS)
async def test_row_level_security_alone_keeps_foreign_rows_out(
    playground: Playground, neighbours: Neighbours, path: str, prepared: bool
) -> None:
    with without_filter():
        async with playground.database.unit_of_work(tenant=neighbours.mine) as work:
            assert await read(work, path, prepared=prepared) == {neighbours.mine}
        async with playground.database.unit_of_work() as work:
            assert await read(work, path, prepared=prepared) == set(), "no organization set: no rows"


@pytest.mark.parametrize("prepared", [False, True], ids=["orm", "prepared"])
@pytest.mark.parametrize("path", READS)
async def test_it_bites_without_both_foreign_rows_appear(
    unwalled: Database, neighbours: Neighbours, path: str, prepared: bool
) -> None:
    with without_filter():
        async with unwalled.unit_of_work(tenant=neighbours.mine) as work:
            assert neighbours.theirs in await read(work, path, prepared=prepared)


@pytest.mark.parametrize("load", [selectinload, joinedload, subqueryload, immediateload])
async def test_loaded_relationships_are_filtered(unwalled: Database, neighbours: Neighbours, load: Any) -> None:
    async with unwalled.unit_of_work(tenant=neighbours.mine) as work:
        box = (await work.session.execute(select(Box).options(load(Box.items)))).unique().scalars().one()
        assert [item.name for item in box.items] == ["item"]


async def test_lazily_loaded_relationships_are_filtered(unwalled: Database, neighbours: Neighbours) -> None:
    async with unwalled.unit_of_work(tenant=neighbours.mine) as work:
        box = (await work.session.execute(select(Box))).scalars().one()
        await work.session.refresh(box, ["items"])
        assert [item.name for item in box.items] == ["item"]
    async with unwalled.unit_of_work(tenant=neighbours.theirs) as work:
        stray = (await work.session.execute(select(Item).where(Item.name == "stray"))).scalars().one()
        await work.session.refresh(stray, ["box"])
        assert stray.box is None


async def test_relationships_of_a_new_object_are_filtered(unwalled: Database, neighbours: Neighbours) -> None:
    """What was made here and not loaded carries no filter to its loaders: this leaked once."""
    async with unwalled.unit_of_work(tenant=neighbours.mine) as work:
        box = Box(id=new_id(), name="new")
        work.session.add(box)
        await work.session.flush()
        await work.raw.execute("SET LOCAL session_replication_role = replica")
        await work.raw.execute("UPDATE items SET box_id = $1 WHERE name = 'stray'", box.id)
        await work.session.refresh(box, ["items"])
        assert box.items == []
        await work.abandon()


async def test_counts_and_existence_tell_nothing_of_others(unwalled: Database, neighbours: Neighbours) -> None:
    async with unwalled.unit_of_work(tenant=neighbours.mine, read_only=True) as work:
        assert await work.session.scalar(select(func.count(Box.id))) == 1
        assert await work.session.scalar(select(func.count()).select_from(select(Box).subquery())) == 1
        assert (
            await work.session.scalar(select(literal(1)).where(exists().where(Box.id == neighbours.their_box))) is None
        )
        assert await work.session.scalar(select(func.count()).where(Item.box_id.in_(select(Box.id)))) == 1
        assert await work.session.get(Box, neighbours.their_box) is None


async def test_a_foreign_id_is_answered_like_a_random_one(playground: Playground, neighbours: Neighbours) -> None:
    answers = []
    for identifier in (neighbours.their_box, new_id()):
        async with playground.context(neighbours.mine) as ctx:
            with pytest.raises(NotFound) as refusal:
                await ctx.get(Box, identifier)
        answers.append((refusal.value.detail, refusal.value.mend, refusal.value.status))
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "statement",
    [update(Box).values(name="taken"), delete(Item), update(Box).values(name="taken").returning(Box.organization_id)],
    ids=["update", "delete", "update returning"],
)
async def test_bulk_changes_stay_at_home(unwalled: Database, neighbours: Neighbours, statement: Any) -> None:
    async with unwalled.unit_of_work(tenant=neighbours.mine) as work:
        await work.session.execute(statement)
        untouched = (
            "SELECT (SELECT name FROM boxes WHERE id = $1), (SELECT count(*) FROM items WHERE organization_id = $2)"
        )
        assert tuple(await work.raw.fetchrow(untouched, neighbours.their_box, neighbours.theirs)) == ("box", 2)
        await work.abandon()


FORGOTTEN = {
    "text": text("UPDATE boxes SET rank = 7 RETURNING organization_id"),
    "core": update(Box.__table__).values(rank=7).returning(Box.__table__.c.organization_id),
    "core select": select(Box.__table__.c.organization_id),
    "from_statement": select(Box.organization_id).from_statement(text("SELECT organization_id FROM boxes")),
    "by hand": PreparedText("SELECT organization_id FROM boxes"),
}


@pytest.mark.parametrize("way", FORGOTTEN)
async def test_statements_the_filter_cannot_see_meet_the_wall(
    playground: Playground, unwalled: Database, neighbours: Neighbours, way: str
) -> None:
    statement: Any = FORGOTTEN[way]

    async def run(work: UnitOfWork) -> set[UUID]:
        if isinstance(statement, PreparedText):
            return organizations(await work.fetch(statement))
        found = organizations((await work.session.execute(statement)).all())
        await work.abandon()
        return found

    async with playground.database.unit_of_work(tenant=neighbours.mine) as work:
        assert await run(work) == {neighbours.mine}
    async with unwalled.unit_of_work(tenant=neighbours.mine) as work:
        assert neighbours.theirs in await run(work), "it bites: nothing but the wall had stopped this"


async def test_update_by_primary_key_meets_the_wall(playground: Playground, neighbours: Neighbours) -> None:
    with pytest.raises(Exception, match="0 were matched"):
        async with playground.context(neighbours.mine) as ctx:
            await ctx.db.execute(update(Box), [{"id": neighbours.their_box, "name": "taken"}])
    assert await playground.count("boxes", "name = 'taken'") == 0


async def test_new_rows_belong_to_the_acting_organization(playground: Playground, neighbours: Neighbours) -> None:
    box = Box(name="mine")
    async with playground.context(neighbours.mine) as ctx:
        ctx.add(box)
    assert box.organization_id == neighbours.mine
    await playground.superuser.execute("DELETE FROM boxes WHERE id = $1", box.id)


async def give(ctx: Context, way: str, values: dict[str, Any]) -> None:
    if way == "orm":
        ctx.add(Box(**values))
        await ctx.db.flush()
    elif way == "bulk":
        await ctx.db.execute(insert(Box), [values])
    elif way == "text":
        names = "(id, organization_id, name, rank, created_at)"
        await ctx.db.execute(
            text(f"INSERT INTO boxes {names} VALUES (:id, :organization_id, :name, :rank, now())"), values
        )
    else:
        await ctx.db.execute(update(Box).values(organization_id=values["organization_id"]))


@pytest.mark.parametrize("way", ["orm", "bulk", "text", "move"])
async def test_rows_cannot_be_written_for_another_organization(
    playground: Playground, neighbours: Neighbours, way: str
) -> None:
    values = {"id": new_id(), "organization_id": neighbours.theirs, "name": "gift", "rank": 0}
    async with playground.context(neighbours.mine) as ctx:
        with pytest.raises(DBAPIError, match="row-level security"):
            await give(ctx, way, values)
        await ctx.work.abandon()
    assert await playground.count("boxes", "organization_id = $1", neighbours.theirs) == 1


async def test_tenants_that_take_turns_on_two_connections_never_mix(
    playground: Playground, neighbours: Neighbours
) -> None:
    """Thirty people of two organizations and of none, on a pool of two: each sees their own rows only."""

    async def visit(number: int) -> None:
        tenant = (neighbours.mine, neighbours.theirs, None)[number % 3]
        async with playground.database.unit_of_work(tenant=tenant, read_only=True) as work:
            for _ in range(3):
                rows = await work.fetch(Prepared(select(Item.organization_id)))
                seen = organizations(rows) | organizations((await work.session.execute(select(ORGANIZATION))).all())
                raw = organizations(await work.raw.fetch("SELECT organization_id FROM boxes"))
                assert seen == raw == ({tenant} if tenant else set())
                await asyncio.sleep(0)

    await asyncio.gather(*(visit(number) for number in range(30)))


@pytest.mark.parametrize("end", ["commit", "rollback", "error", "broken"])
async def test_the_tenant_leaves_with_the_transaction(playground: Playground, neighbours: Neighbours, end: str) -> None:
    try:
        async with playground.database.unit_of_work(tenant=neighbours.mine, user=new_id()) as work:
            if end == "rollback":
                await work.abandon()
            elif end == "error":
                raise LookupError
            elif end == "broken":
                await work.raw.execute("SELECT 1 / 0")
    except (LookupError, asyncpg.DivisionByZeroError):
        pass
    for _ in range(2):
        async with playground.database.connection() as connection:
            settings = (
                "SELECT nullif(current_setting('app.tenant', true), ''), nullif(current_setting('app.user', true), '')"
            )
            assert (await connection.exec_driver_sql(settings)).one() == (None, None)
            assert (await connection.exec_driver_sql("SELECT count(*) FROM boxes")).scalar() == 0


async def test_it_bites_a_session_setting_leaks_through_the_pool(
    playground: Playground, neighbours: Neighbours
) -> None:
    """Why SET LOCAL: with a plain SET the next user of the connection works in somebody else's organization."""
    async with playground.database.connection() as connection:
        await connection.exec_driver_sql(f"SET app.tenant = '{neighbours.mine}'")
    async with playground.database.connection() as connection:
        leaked = (await connection.exec_driver_sql("SELECT count(*) FROM boxes")).scalar()
        await connection.exec_driver_sql("RESET app.tenant")
    assert leaked == 1


async def test_the_application_role_cannot_lower_the_wall(playground: Playground) -> None:
    role = await playground.superuser.fetchrow("SELECT * FROM pg_roles WHERE rolname = 'ballast_app'")
    assert not any(role[power] for power in ("rolsuper", "rolbypassrls", "rolcreaterole"))
    walls = await playground.superuser.fetch(
        "SELECT relname, relrowsecurity AND relforcerowsecurity AS up, pg_get_userbyid(relowner) AS owner"
        " FROM pg_class WHERE relname = ANY($1)",
        list(TABLES),
    )
    assert len(walls) == len(TABLES)
    assert all(wall["up"] and wall["owner"] == "ballast_owner" for wall in walls)
    for attempt in ("ALTER TABLE boxes DISABLE ROW LEVEL SECURITY", "SET ROLE ballast_owner", "TRUNCATE boxes",
                    "DELETE FROM boxes", "SET row_security = off; SELECT * FROM boxes"):  # fmt: skip
        with pytest.raises(asyncpg.PostgresError):
            async with playground.database.unit_of_work() as work:
                await work.raw.execute(attempt)


async def test_it_bites_a_table_without_policies_shows_everything(
    playground: Playground, neighbours: Neighbours
) -> None:
    owner = playground.superuser
    async with playground.database.connection() as connection:
        try:
            await owner.execute("ALTER TABLE boxes DISABLE ROW LEVEL SECURITY")
            assert (await connection.exec_driver_sql("SELECT count(*) FROM boxes")).scalar_one() >= 2
        finally:
            await owner.execute("ALTER TABLE boxes ENABLE ROW LEVEL SECURITY")
        assert (await connection.exec_driver_sql("SELECT count(*) FROM boxes")).scalar() == 0
