"""Every table says how long it keeps its rows, and the purge really removes them: all that is due, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Column, ForeignKey, Index, MetaData, Table, Uuid
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.exc import DBAPIError

from service.catalog import load_tables
from service.core import clock
from service.core.context import Resources
from service.core.ids import new_id
from service.core.settings import Profile
from service.guardrails import purge, soft_delete
from service.guardrails.purge import purge_expired
from service.guardrails.retention import (
    Retention,
    after_deletion,
    days_after,
    declared_parts,
    forever,
    parts_of,
    problems,
    retention_of,
    with_parent,
)
from tests.guardrails.playground import Box, Item, Label, Mark, Play, Playground

MONTH = timedelta(days=30)


async def plant(playground: Playground, tenant: UUID, *, marks: int = 5, delete: bool = True) -> UUID:
    """A box with two items, a label on one of them, and marks."""
    box, item = Box(id=new_id(), name=new_id().hex), Item(id=new_id())
    item.box_id = box.id
    async with playground.context(tenant) as ctx:
        ctx.add(box)
        await ctx.db.flush()
        ctx.db.add_all([item, Item(box_id=box.id)])
        ctx.db.add_all([Mark(box_id=box.id, at=clock.now() + timedelta(seconds=n)) for n in range(marks)])
        await ctx.db.flush()
        ctx.add(Label(item_id=item.id))
    if delete:
        async with playground.context(tenant) as ctx:
            await soft_delete.delete(ctx, await ctx.get(Box, box.id))
    return box.id


async def left(playground: Playground, box: UUID) -> dict[str, int]:
    counts = {"boxes": await playground.count("boxes", "id = $1", box)}
    for table in ("items", "marks"):
        counts[table] = await playground.count(table, "box_id = $1", box)
    return counts


ALL = {"boxes": 1, "items": 2, "marks": 5}
NOTHING = {"boxes": 0, "items": 0, "marks": 0}


@pytest.fixture
async def tenant(playground: Playground) -> UUID:
    return await playground.organization()


@pytest.fixture(autouse=True)
async def _no_leftovers(playground: Playground) -> AsyncIterator[None]:
    """What other tests have deleted would be due as well, once the clock moves."""
    await playground.superuser.execute("TRUNCATE boxes CASCADE; UPDATE organizations SET deleted_at = NULL")
    yield
    await playground.superuser.execute("DELETE FROM legal_holds")


async def run(playground: Playground, **options: Any) -> Counter[str]:
    return await purge_expired(playground.resources, base=Play, **options)


async def test_the_purge_removes_what_is_due_children_first(playground: Playground, tenant: UUID) -> None:
    old = await plant(playground, tenant)
    clock.advance(MONTH + timedelta(hours=2))
    young, alive = await plant(playground, tenant), await plant(playground, tenant, delete=False)
    assert await run(playground) == {"boxes": 1, "items": 2, "labels": 1, "marks": 5}
    assert await left(playground, old) == NOTHING
    assert await left(playground, young) == await left(playground, alive) == ALL
    assert not await run(playground), "a second run finds nothing"


async def test_nothing_goes_while_it_can_still_be_restored(playground: Playground, tenant: UUID) -> None:
    box = await plant(playground, tenant)
    clock.advance(MONTH)
    assert not await run(playground), "restorable until now; clocks differ, so the purge waits another hour"
    assert await left(playground, box) == ALL


async def test_batches_are_bounded(playground: Playground, tenant: UUID) -> None:
    """However much is due, no transaction removes more than a batch."""
    for _ in range(3):
        await plant(playground, tenant, marks=11)
    clock.advance(MONTH * 2)
    await playground.superuser.execute(
        """
        CREATE FUNCTION refuse_big() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN IF (SELECT count(*) FROM gone) > 4 THEN RAISE EXCEPTION ''too many''; END IF; RETURN NULL; END';
        CREATE TRIGGER bounded AFTER DELETE ON marks REFERENCING OLD TABLE AS gone
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_big()
        """
    )
    try:
        assert (await run(playground, batch=4))["marks"] == 33
    finally:
        await playground.superuser.execute("DROP TRIGGER bounded ON marks; DROP FUNCTION refuse_big")


async def test_a_round_is_short_and_the_next_goes_on(playground: Playground, tenant: UUID) -> None:
    """A long transaction would keep the audit log from being sealed."""
    box = await plant(playground, tenant, marks=9)
    clock.advance(MONTH * 2)
    rounds = 0
    while await left(playground, box) != NOTHING:
        assert sum((await run(playground, batch=2, seconds=0)).values()) <= 5
        rounds += 1
    assert rounds > 3


async def test_each_organization_is_told_what_was_purged(playground: Playground, tenant: UUID) -> None:
    other = await playground.organization()
    for owner in (tenant, tenant, other):
        await plant(playground, owner)
    clock.advance(MONTH * 2)
    await run(playground)
    rows = await playground.superuser.fetch(
        "SELECT organization_id, object_type, actor_kind, facts->>'rows' AS rows FROM audit_log"
        " WHERE action = 'retention.purge' AND organization_id = ANY($1) AND object_type = 'boxes'",
        [tenant, other],
    )
    assert {tuple(row) for row in rows} == {(tenant, "boxes", "system", "2"), (other, "boxes", "system", "1")}


async def test_an_organization_takes_everything_with_it(playground: Playground, tenant: UUID) -> None:
    neighbour = await playground.organization()
    gone, stays = await plant(playground, tenant, delete=False), await plant(playground, neighbour, delete=False)
    await playground.superuser.execute(
        "UPDATE organizations SET deleted_at = $2, deletion_id = $1 WHERE id = $1", tenant, clock.now()
    )
    clock.advance(MONTH * 2)
    removed = await run(playground)
    assert removed == {"organizations": 1, "boxes": 1, "items": 2, "labels": 1, "marks": 5}
    assert (await left(playground, gone), await left(playground, stays)) == (NOTHING, ALL)


@pytest.mark.parametrize("lifted", [False, True])
async def test_a_legal_hold_stops_the_purge(playground: Playground, tenant: UUID, lifted: bool) -> None:
    held = await plant(playground, tenant)
    other = await plant(playground, await playground.organization())
    await playground.superuser.execute(
        "INSERT INTO legal_holds (id, subject_id, reason, placed_at, lifted_at) VALUES ($1, $2, 'lawsuit', $3, $4)",
        new_id(), tenant, clock.now(), clock.now() if lifted else None,
    )  # fmt: skip
    clock.advance(MONTH * 2)
    await run(playground)
    assert await left(playground, held) == (NOTHING if lifted else ALL)
    assert await left(playground, other) == NOTHING


async def test_one_table_that_fails_does_not_spare_the_others(playground: Playground, tenant: UUID) -> None:
    box, item = await plant(playground, tenant), await plant(playground, tenant, delete=False)
    async with playground.context(tenant) as ctx:
        for found in (await ctx.db.scalars(Item.__table__.select().where(Item.box_id == item))).all():
            await soft_delete.delete(ctx, await ctx.get(Item, found))
    clock.advance(MONTH * 2)
    await playground.superuser.execute("REVOKE DELETE ON marks FROM ballast_maintenance")
    try:
        with pytest.raises(ExceptionGroup, match="some tables could not be purged"):
            await run(playground)
    finally:
        await playground.superuser.execute("GRANT DELETE ON marks TO ballast_maintenance")
    assert await left(playground, item) == {"boxes": 1, "items": 0, "marks": 5}
    assert (await left(playground, box))["boxes"] == 1
    await run(playground)
    assert await left(playground, box) == NOTHING, "the next run goes on"


async def test_only_the_maintenance_role_can_purge(playground: Playground, tenant: UUID) -> None:
    box = await plant(playground, tenant)
    clock.advance(MONTH * 2)
    web = Resources(playground.resources.settings, playground.database, playground.resources.redis)
    with pytest.raises(RuntimeError, match="maintenance role"):
        await purge_expired(web, base=Play)
    posing = Resources(web.settings, web.database, web.redis, maintenance=playground.database)
    with pytest.RaisesGroup(*[pytest.RaisesExc(DBAPIError, match="permission denied")] * 4):
        await purge_expired(posing, base=Play)
    assert await left(playground, box) == ALL


async def test_the_services_own_tables_can_be_purged(playground: Playground, tenant: UUID) -> None:
    """Rights, policies and keys of the real tables let the maintenance role do all that the rules promise."""
    person, gone, kept = new_id(), new_id(), new_id()
    old = clock.now() - 2 * MONTH
    run_sql = playground.superuser.execute
    await run_sql(
        "INSERT INTO users (id, email, name, created_at, deleted_at) VALUES ($1, $2, 'x', $3, $3)",
        person, f"{person.hex}@example.com", old,
    )  # fmt: skip
    await run_sql(
        "INSERT INTO memberships (id, user_id, role, created_at, organization_id) VALUES ($1, $2, 'owner', $3, $4)",
        new_id(), person, old, tenant,
    )  # fmt: skip
    for indicator, deleted_at in ((gone, old), (kept, None)):
        await run_sql(
            "INSERT INTO indicators (id, organization_id, name, created_at, changed_at, created_by, deleted_at)"
            " VALUES ($1::uuid, $2, $1::uuid::text, $3, $3, $4, $5)",
            indicator, tenant, old, person, deleted_at,
        )  # fmt: skip
        await run_sql(
            "INSERT INTO readings (organization_id, indicator_id, at, value)"
            " SELECT $1, $2, to_timestamp(n), n FROM generate_series(1, 2500) n",
            tenant, indicator,
        )  # fmt: skip
    await run_sql(
        "INSERT INTO idempotency_keys (owner_id, actor_id, route, key, fingerprint, answer, created_at)"
        " VALUES ($1, $2, 'POST /', 'key', '', '', $3)",
        tenant, person, old,
    )  # fmt: skip
    removed = await purge_expired(playground.resources)
    assert removed["readings"] == 2500
    assert {"indicators", "idempotency_keys"} <= set(removed)
    assert await playground.count("users", "id = $1", person) == 1, "people go through the erasure's steps"
    assert await playground.count("indicators", "id = $1 AND created_by = $2", kept, person) == 1
    assert await playground.count("readings", "indicator_id = $1", kept) == 2500
    await run_sql("TRUNCATE readings; DELETE FROM indicator_words; DELETE FROM indicators")


async def test_it_bites_without_the_grace_a_restore_races_with_the_purge(
    playground: Playground, tenant: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = await plant(playground, tenant)
    clock.advance(MONTH - timedelta(minutes=1))
    monkeypatch.setattr(purge, "GRACE", -timedelta(hours=1))
    await run(playground)
    assert await left(playground, box) == NOTHING


def test_a_rule_needs_a_reason_and_a_period() -> None:
    assert forever("the law says so").days is None
    with pytest.raises(ValueError, match="needs a reason"):
        forever("  ")
    with pytest.raises(ValueError, match="at least one day"):
        days_after("at", days=0, reason="why not")


def test_parts_follow_from_the_declarations() -> None:
    tables = Play.metadata.tables
    assert [table.name for table, _ in parts_of(tables["boxes"])] == ["marks", "items"]
    assert [table.name for table, _ in declared_parts(tables["items"])] == ["labels"]
    assert {table.name for table, _ in parts_of(tables["organizations"])} >= {"boxes", "items", "labels"}
    assert declared_parts(tables["organizations"]) == []


def probe(rule: Retention | None, *extra: Any, child: Any = None) -> list[str]:
    metadata = MetaData()
    info = {"retention": rule} if rule else {}
    Table("probe", metadata, Column("id", Uuid, primary_key=True), Column("at", TIMESTAMP), *extra, info=info)
    if child is not None:
        Table("child", metadata, Column("probe_id", ForeignKey("probe.id", **child)), info={"retention": forever("x")})
    return problems(metadata)


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        (probe(None), "does not say how long"),
        (probe(with_parent("boxes", reason="x")), "no foreign key to it"),
        (probe(days_after("expires_at", days=1, reason="x")), "which it does not have"),
        (probe(days_after("at", days=1, reason="x")), "needs an index"),
        (probe(after_deletion(days=1, reason="x"), Column("deleted_at", TIMESTAMP)), "needs an index"),
        (probe(days_after("at", days=1, reason="x"), Index("i", "id", "at")), "needs an index"),
        (probe(days_after("at", days=1, reason="x"), Index("i", "at"), child={}), "would block the purge"),
    ],
)
def test_what_would_go_wrong_is_said_beforehand(found: list[str], complaint: str) -> None:
    assert len(found) == 1
    assert complaint in found[0]


def test_what_is_right_is_left_in_peace() -> None:
    assert probe(forever("x")) == []
    assert probe(days_after("at", days=1, reason="x"), Index("i", "at")) == []
    assert probe(days_after("at", days=1, reason="x"), Index("i", "at"), child={"ondelete": "SET NULL"}) == []
    assert problems(Play.metadata) == []


def test_the_services_own_tables_have_no_problem() -> None:
    tables = load_tables()
    assert len(tables.tables) >= 10
    assert problems(tables) == []
    assert retention_of(tables.tables["idempotency_keys"]) == days_after(
        "created_at", days=1, reason="a client that retries does so within a day"
    )


def test_a_hold_never_means_a_row_by_its_number() -> None:
    """Messages are numbered, holds are of ids: one hold on anybody, and no message was purged any more."""
    tables, rule = load_tables().tables, days_after("id", days=1, reason="any")
    for name, has_ids in (("inbox", False), ("users", True)):
        table = tables[name]
        where = str(purge._expired(table, rule, Profile.NONE, purge.Held([new_id()], [])))
        assert (f"{name}.id NOT IN" in where) is has_ids, where
