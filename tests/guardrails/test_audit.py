"""The audit log: written with the change, never changed afterwards, and every way of tampering is named."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import Table
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from structlog.testing import capture_logs

from service.core import clock, logging
from service.core.context import SYSTEM, Actor, ActorKind
from service.core.database import LOST, Base, Database
from service.core.errors import Forbidden
from service.core.ids import new_id
from service.core.settings import Settings, get_settings
from service.guardrails import audit
from service.guardrails.audit.changes import LONGEST_TEXT, MOST_FIELDS, MOST_OBJECTS, plain
from service.guardrails.audit.log import COLUMNS, row_hash
from service.guardrails.audit.seal import MOST_ROWS, merkle_root, sign
from service.guardrails.personal_data import content, hide_in_logs, internal, personal, secret

if TYPE_CHECKING:
    from tests.guardrails.durability import Acting

pytest_plugins = "tests.guardrails.durability"

ADA = Actor(ActorKind.USER, new_id())


class Scratch(DeclarativeBase):
    """Not the service's Base: the architecture tests look at every table there."""

    type_annotation_map = Base.type_annotation_map


class Thing(Scratch):
    __tablename__ = "audit_things"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    name: Mapped[str | None] = mapped_column(info=content())
    state: Mapped[str] = mapped_column(default="new", info=internal())
    contact: Mapped[str | None] = mapped_column(info=personal("contact.email"))
    pin: Mapped[str | None] = mapped_column(info=secret())
    forgotten: Mapped[str | None] = mapped_column()  # nobody has classified it yet


@pytest.fixture(scope="module")
async def things(own_superuser: asyncpg.Connection[Any]) -> AsyncIterator[Table]:
    await own_superuser.execute(
        "CREATE TABLE audit_things"
        " (id uuid PRIMARY KEY, name text, state text, contact text, pin text, forgotten text);"
        "GRANT ALL ON audit_things TO ballast_app, ballast_maintenance"
    )
    before = set(logging.hidden_names)
    hide_in_logs(Scratch.metadata)
    yield Scratch.metadata.tables["audit_things"]
    logging.hidden_names.intersection_update(before)
    await own_superuser.execute("DROP TABLE audit_things")


@pytest.fixture
async def empty_log(own_superuser: asyncpg.Connection[Any]) -> AsyncIterator[None]:
    async def clear() -> None:
        await as_attacker(own_superuser, "TRUNCATE audit_log, audit_segments")

    await clear()
    yield
    await clear()


async def as_attacker(superuser: asyncpg.Connection[Any], *statements: str) -> None:
    """What only somebody who owns the whole server can do: take the triggers off, change, put them back on."""
    tables = ("audit_log", "audit_segments")
    async with superuser.transaction():
        for table in tables:
            await superuser.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
        for statement in statements:
            await superuser.execute(statement)
        for table in tables:
            await superuser.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_append_only")


async def newest(superuser: asyncpg.Connection[Any], count: int = 1) -> list[dict[str, Any]]:
    rows = await superuser.fetch("SELECT * FROM audit_log ORDER BY txid DESC, id DESC LIMIT $1", count)
    return [dict(row) | {name: json.loads(row[name]) for name in ("changes", "facts")} for row in reversed(rows)]


async def write(acting: Acting, count: int = 1, tenant: UUID | None = None) -> None:
    """`count` rows in as many transactions."""
    for number in range(count):
        async with acting(tenant=tenant, actor=ADA) as ctx:
            await audit.record(ctx, "things.touch", audit.Changes("things", new_id()), {"number": number})


async def rows_in_order(superuser: asyncpg.Connection[Any]) -> list[UUID]:
    return [row["id"] for row in await superuser.fetch("SELECT id FROM audit_log ORDER BY txid, id")]


# It works


async def test_a_change_is_recorded_with_who_what_where_before_and_after(
    acting: Acting, things: Table, own_superuser: asyncpg.Connection[Any]
) -> None:
    tenant = new_id()
    async with acting(tenant=tenant, actor=ADA, request_id="req-7", address="203.0.113.77") as ctx:
        thing = Thing(name="Signups", contact="ada@example.com", pin="0000", forgotten="what is this")
        ctx.db.add(thing)
        changes = await audit.flush_and_collect(ctx, thing)
        await audit.record(ctx, "things.create", changes, {})
        thing.name, thing.pin = "Sign-ups", "1111"
        await ctx.db.flush()
        thing.name = "Sign-ups per day"
        await audit.record(ctx, "things.rename", await audit.flush_and_collect(ctx, thing), {"reason": "typo", "n": 3})
        await ctx.db.delete(thing)
        await audit.record(ctx, "things.delete", await audit.flush_and_collect(ctx, None), {})
    created, renamed, deleted = await newest(own_superuser, 3)
    assert created["changes"] == {
        "name": [None, "Signups"],
        "state": [None, "new"],
        "contact": [None, "[changed]"],
        "pin": [None, "[changed]"],
        "forgotten": [None, "[changed]"],
    }
    # Two flushes, one action: what it was before the first and after the last.
    assert renamed["changes"] == {"name": ["Signups", "Sign-ups per day"], "pin": ["[changed]", "[changed]"]}
    assert (renamed["reason"], renamed["facts"]) == ("typo", {"n": 3})
    assert deleted["changes"]["name"] == ["Sign-ups per day", None]
    assert deleted["object_type"] == "audit_things"
    assert deleted["object_id"] == thing.id
    assert (created["organization_id"], created["actor_kind"], created["actor_id"]) == (tenant, "user", ADA.id)
    assert (created["action"], created["outcome"], created["request_id"]) == ("things.create", "done", "req-7")
    assert created["address_prefix"] == "203.0.113.0/24"


async def test_a_rollback_takes_the_row_with_the_change(
    acting: Acting, things: Table, own_superuser: asyncpg.Connection[Any]
) -> None:
    before = await own_superuser.fetchval("SELECT count(*) FROM audit_log")

    async def fail_halfway() -> None:
        async with acting(tenant=new_id()) as ctx:
            ctx.db.add(Thing(name="x"))
            await audit.record(ctx, "things.create", await audit.flush_and_collect(ctx, None), {})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_halfway()
    assert await own_superuser.fetchval("SELECT count(*) FROM audit_log") == before


async def test_a_change_whose_row_cannot_be_written_fails(
    acting: Acting, things: Table, own_superuser: asyncpg.Connection[Any]
) -> None:
    thing = new_id()

    async def change() -> None:
        async with acting(tenant=new_id()) as ctx:
            ctx.db.add(Thing(id=thing, name="x"))
            await audit.record(ctx, "things.create", await audit.flush_and_collect(ctx, None), {})

    await own_superuser.execute("REVOKE INSERT ON audit_log FROM ballast_app")
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await change()
    finally:
        columns = ", ".join([*COLUMNS, "row_hash"])
        await own_superuser.execute(f"GRANT INSERT ({columns}) ON audit_log TO ballast_app")
    assert await own_superuser.fetchval("SELECT count(*) FROM audit_things WHERE id = $1", thing) == 0


async def test_an_action_inside_an_action_keeps_its_changes_apart(acting: Acting, things: Table) -> None:
    async with acting(tenant=new_id()) as ctx:
        outer, inner = Thing(name="outer"), Thing(name="inner")
        ctx.db.add(outer)
        earlier = await audit.set_aside(ctx)
        ctx.db.add(inner)
        inside = await audit.flush_and_collect(ctx, inner)
        audit.put_back(ctx, earlier)
        outside = await audit.flush_and_collect(ctx, outer)
    assert inside.fields["name"] == [None, "inner"]
    assert outside.fields["name"] == [None, "outer"]
    assert len(inside.fields) == len(outside.fields) == 2


async def test_a_batch_is_recorded_within_bounds_and_says_how_much_it_left_out(acting: Acting, things: Table) -> None:
    async with acting(tenant=new_id()) as ctx:
        ctx.db.add_all([Thing(name="x" * 10_000) for _ in range(MOST_OBJECTS * 5)])
        changes = await audit.flush_and_collect(ctx, None)
    assert len(changes.fields) <= MOST_FIELDS + 1
    assert changes.fields["..."] == [None, f"{MOST_OBJECTS * 5 * 2 - len(changes.fields) + 1} more"]
    assert len(changes.fields["name"][1]) == LONGEST_TEXT + 3


async def test_a_security_event_survives_the_rollback_of_its_request(
    acting: Acting, own_superuser: asyncpg.Connection[Any]
) -> None:
    tenant = new_id()

    async def be_refused() -> None:
        async with acting(tenant=tenant, actor=ADA) as ctx:
            ctx.note("accounts.log_in", "failed", account="0123abcd", email="ada@example.com", reason="wrong password")
            raise Forbidden("no")

    with pytest.raises(Forbidden):
        await be_refused()
    (row,) = await newest(own_superuser)
    assert (row["action"], row["outcome"], row["reason"]) == ("accounts.log_in", "failed", "wrong password")
    assert row["organization_id"] == tenant
    assert row["facts"] == {"account": "0123abcd", "email": "[hidden]"}


async def test_an_event_written_in_the_requests_transaction_would_be_lost(
    acting: Acting, own_superuser: asyncpg.Connection[Any]
) -> None:
    """It bites: the failure counter that never counted, because the 4xx rolled it back."""
    before = await own_superuser.fetchval("SELECT count(*) FROM audit_log")

    async def be_refused() -> None:
        async with acting(tenant=new_id()) as ctx:
            await audit.record(ctx, "accounts.log_in", audit.Changes(), {})
            raise Forbidden("no")

    with pytest.raises(Forbidden):
        await be_refused()
    assert await own_superuser.fetchval("SELECT count(*) FROM audit_log") == before


async def test_events_are_logged_even_when_the_database_is_lost(
    acting: Acting, own_superuser: asyncpg.Connection[Any]
) -> None:
    async def lose_the_database() -> None:
        async with acting(tenant=new_id()) as ctx:
            ctx.note("accounts.log_in", "failed", account="0123abcd")
            await own_superuser.execute("SELECT pg_terminate_backend($1)", ctx.work.raw.get_server_pid())
            await ctx.work.raw.execute("SELECT 1")

    with capture_logs() as logged, pytest.raises(LOST):
        await lose_the_database()
    assert [entry["event"] for entry in logged] == ["security event", "security events not stored"]


# The attack fails


async def test_each_organization_reads_its_own_rows_only(acting: Acting) -> None:
    mine, other = new_id(), new_id()
    for tenant in (mine, other, None):
        await write(acting, 2, tenant)
    async with acting(tenant=mine) as ctx:
        seen = await ctx.work.raw.fetch("SELECT organization_id FROM audit_log")
    assert [row["organization_id"] for row in seen] == [mine, mine]
    async with acting() as ctx:
        assert await ctx.work.raw.fetchval("SELECT count(*) FROM audit_log") == 0


async def test_nobody_writes_into_another_organizations_log(acting: Acting) -> None:
    async def mix_them_up() -> None:
        async with acting(tenant=new_id()) as ctx:
            ctx.work.tenant = new_id()  # row-level security still knows the first
            await audit.record(ctx, "things.create", audit.Changes(), {})

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await mix_them_up()


@pytest.mark.parametrize("role", ["ballast_app", "ballast_maintenance", "ballast_owner"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET outcome = 'denied'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "UPDATE audit_segments SET row_count = 0",
        "DELETE FROM audit_segments",
        "TRUNCATE audit_segments",
        "INSERT INTO audit_log (txid) VALUES (1)",
        "INSERT INTO audit_log (cluster) VALUES (1)",
    ],
)
async def test_no_role_of_ours_changes_the_log(servers: Any, own_database: str, role: str, statement: str) -> None:
    connection = await asyncpg.connect(servers.postgres.url(role, own_database))
    try:
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.NotNullViolationError)) as caught:
            await connection.execute(statement)
    finally:
        await connection.close()
    if role != "ballast_owner":
        assert isinstance(caught.value, asyncpg.InsufficientPrivilegeError)


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_log SET outcome = ''", "DELETE FROM audit_log", "TRUNCATE audit_log"]
)
@pytest.mark.parametrize("mode", ["origin", "replica"])
async def test_even_the_superuser_is_refused_by_the_trigger(
    own_superuser: asyncpg.Connection[Any], statement: str, mode: str
) -> None:
    await own_superuser.execute(f"SET session_replication_role = {mode}")
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await own_superuser.execute(statement)
    finally:
        await own_superuser.execute("RESET session_replication_role")


# Each example is a transaction; shrinking a failure would take minutes.
BOUNDED = examples(
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
text = st.text(min_size=6, max_size=40).filter(lambda value: value.strip() and value not in "[changed][hidden]")


@given(contact=text, pin=text, forgotten=text, fact=text)
@examples(BOUNDED, max_examples=40)
async def test_no_personal_or_secret_value_ever_gets_in(
    acting: Acting,
    things: Table,
    own_superuser: asyncpg.Connection[Any],
    contact: str,
    pin: str,
    forgotten: str,
    fact: str,
) -> None:
    values = [
        f"<<{value}>>".replace("\0", "").encode("utf-8", "ignore").decode() for value in (contact, pin, forgotten, fact)
    ]
    async with acting(tenant=new_id()) as ctx:
        thing = Thing(name="x", contact=values[0], pin=values[1], forgotten=values[2])
        ctx.db.add(thing)
        first = await audit.flush_and_collect(ctx, thing)
        thing.contact, thing.pin = f"{values[0]}!", f"{values[1]}!"
        second = await audit.flush_and_collect(ctx, None)
        facts = {
            "contact": values[3],
            "nested": {"Password": values[3], "list": [{"pin": values[3]}]},
            "to": f"{values[3]}@b.c",
        }
        for changes in (first, second):
            await audit.record(ctx, "things.change", changes, facts)
        await ctx.db.delete(thing)
        await audit.record(ctx, "things.delete", await audit.flush_and_collect(ctx, None), facts)
    rows = await own_superuser.fetch(
        "SELECT audit_log::text AS line FROM audit_log ORDER BY txid DESC, id DESC LIMIT 3"
    )
    assert len(rows) == 3
    stored = "\n".join(row["line"] for row in rows)
    for value in values:
        assert value not in stored
        assert json.dumps(value)[1:-1] not in stored


async def test_without_the_classification_the_values_would_get_in(
    acting: Acting, things: Table, own_superuser: asyncpg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It bites."""
    monkeypatch.setitem(things.columns["contact"].info, "privacy", content()["privacy"])
    async with acting(tenant=new_id()) as ctx:
        ctx.db.add(Thing(contact="ada@example.com"))
        await audit.record(ctx, "things.change", await audit.flush_and_collect(ctx, None), {})
    (row,) = await newest(own_superuser)
    assert row["changes"]["contact"] == [None, "ada@example.com"]


class Colour(Enum):
    RED = "red"


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.uuids()
    | st.datetimes(timezones=st.timezones())
    | st.decimals()
    | st.binary()
    | st.sampled_from(Colour),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(value=anything)
@examples(BOUNDED, max_examples=150)
async def test_what_is_stored_hashes_as_what_was_written(
    acting: Acting, own_superuser: asyncpg.Connection[Any], value: Any
) -> None:
    """jsonb reorders keys and rewrites numbers: a value it changed would look like tampering for ever."""
    async with acting(tenant=new_id()) as ctx:
        await audit.record(
            ctx, "things.change", audit.Changes("t", None, {"value": plain([None, value])}), {"fact": value}
        )
    row = await own_superuser.fetchrow("SELECT * FROM audit_log ORDER BY txid DESC LIMIT 1")
    assert row_hash({name: row[name] for name in COLUMNS}) == row["row_hash"]


# Tampering is named


Tamper = Callable[["asyncpg.Connection[Any]", list[UUID]], Awaitable[tuple[str, str]]]


async def _change(superuser: asyncpg.Connection[Any], ids: list[UUID]) -> tuple[str, str]:
    await as_attacker(superuser, f"UPDATE audit_log SET outcome = 'denied' WHERE id = '{ids[4]}'")
    return "changed", str(ids[4])


async def _change_and_rehash(superuser: asyncpg.Connection[Any], ids: list[UUID]) -> tuple[str, str]:
    row = dict(await superuser.fetchrow("SELECT * FROM audit_log WHERE id = $1", ids[4]))
    row["actor_id"] = new_id()
    hashed = row_hash({name: row[name] for name in COLUMNS})
    await as_attacker(
        superuser,
        f"UPDATE audit_log SET actor_id = '{row['actor_id']}', row_hash = '\\x{hashed.hex()}' WHERE id = '{ids[4]}'",
    )
    return "changed", str(ids[4])


async def _delete(superuser: asyncpg.Connection[Any], ids: list[UUID]) -> tuple[str, str]:
    await as_attacker(superuser, f"DELETE FROM audit_log WHERE id = '{ids[4]}'")
    return "missing", str(ids[4])


async def _insert(superuser: asyncpg.Connection[Any], ids: list[UUID]) -> tuple[str, str]:
    forged = new_id()
    columns = ", ".join([*COLUMNS[1:], "row_hash", "txid", "cluster"])
    await as_attacker(
        superuser,
        f"INSERT INTO audit_log (id, {columns}) SELECT '{forged}', {columns} FROM audit_log WHERE id = '{ids[4]}'",
    )
    return "inserted", str(forged)


async def _insert_before_everything(superuser: asyncpg.Connection[Any], ids: list[UUID]) -> tuple[str, str]:
    forged = new_id()
    columns = ", ".join([*COLUMNS[1:], "row_hash", "cluster"])
    await as_attacker(
        superuser,
        f"INSERT INTO audit_log (id, txid, {columns})"
        f" SELECT '{forged}', 5, {columns} FROM audit_log WHERE id = '{ids[4]}'",
    )
    return "inserted", str(forged)


async def _swap(superuser: asyncpg.Connection[Any], ids: list[UUID]) -> tuple[str, str]:
    await as_attacker(
        superuser,
        f"UPDATE audit_log AS one SET txid = two.txid FROM audit_log AS two WHERE one.id IN ('{ids[3]}', '{ids[4]}')"
        f" AND two.id IN ('{ids[3]}', '{ids[4]}') AND one.id <> two.id",
    )
    return "reordered", str(ids[4])


async def _move_to_the_end(superuser: asyncpg.Connection[Any], ids: list[UUID]) -> tuple[str, str]:
    await as_attacker(superuser, f"UPDATE audit_log SET txid = txid + 1000000 WHERE id = '{ids[4]}'")
    return "reordered", str(ids[4])


async def _cut_the_tail(superuser: asyncpg.Connection[Any], ids: list[UUID]) -> tuple[str, str]:
    await as_attacker(superuser, f"DELETE FROM audit_log WHERE id IN ('{ids[-1]}', '{ids[-2]}')")
    return "missing", str(ids[-1])


async def _cut_the_tail_with_its_seals(superuser: asyncpg.Connection[Any], ids: list[UUID]) -> tuple[str, str]:
    await as_attacker(
        superuser,
        f"DELETE FROM audit_log WHERE id IN ('{ids[-1]}', '{ids[-2]}')",
        "DELETE FROM audit_segments WHERE number = 3",
    )
    return "truncated", "segment 3"


async def _drop_a_segment(superuser: asyncpg.Connection[Any], ids: list[UUID]) -> tuple[str, str]:
    await as_attacker(superuser, "DELETE FROM audit_segments WHERE number = 2")
    return "missing segment", "2 to 2"


async def _forge_a_segment(superuser: asyncpg.Connection[Any], ids: list[UUID]) -> tuple[str, str]:
    row = dict(await superuser.fetchrow("SELECT * FROM audit_log WHERE id = $1", ids[-1]))
    row["actor_id"] = None
    hashed = row_hash({name: row[name] for name in COLUMNS})
    members = await superuser.fetchval("SELECT members FROM audit_segments WHERE number = 3")
    members = members[:-32] + hashed
    await as_attacker(
        superuser,
        f"UPDATE audit_log SET actor_id = NULL, row_hash = '\\x{hashed.hex()}' WHERE id = '{ids[-1]}'",
        f"UPDATE audit_segments SET members = '\\x{members.hex()}',"
        f" root = '\\x{merkle_root(members).hex()}' WHERE number = 3",
    )
    return "altered", "segment 3"


async def _rewrite_history_with_the_key(superuser: asyncpg.Connection[Any], ids: list[UUID]) -> tuple[str, str]:
    segment = dict(await superuser.fetchrow("SELECT * FROM audit_segments WHERE number = 2"))
    members = bytearray(segment["members"])
    row = dict(await superuser.fetchrow("SELECT * FROM audit_log WHERE id = $1", ids[4]))
    row["actor_id"] = None
    hashed = row_hash({name: row[name] for name in COLUMNS})
    at = members.index(ids[4].bytes)
    members[at + 24 : at + 56] = hashed
    segment["root"] = merkle_root(bytes(members))
    await as_attacker(
        superuser,
        f"UPDATE audit_log SET actor_id = NULL, row_hash = '\\x{hashed.hex()}' WHERE id = '{ids[4]}'",
        f"UPDATE audit_segments SET members = '\\x{members.hex()}', root = '\\x{segment['root'].hex()}',"
        f" seal = '\\x{sign(segment, get_settings()).hex()}' WHERE number = 2",
    )
    return "altered", "segment 3: it does not follow"


TAMPERINGS = [
    _change,
    _change_and_rehash,
    _delete,
    _insert,
    _insert_before_everything,
    _swap,
    _move_to_the_end,
    _cut_the_tail,
    _cut_the_tail_with_its_seals,
    _drop_a_segment,
    _forge_a_segment,
    _rewrite_history_with_the_key,
]


@pytest.fixture
async def sealed(
    acting: Acting,
    empty_log: None,
    own_maintenance: Database,
    own_settings: Settings,
    own_superuser: asyncpg.Connection[Any],
    tmp_path: Path,
) -> tuple[list[UUID], Path]:
    """Nine rows in three segments, and the log file with their anchors."""
    anchors = tmp_path / "worker.log"
    with anchors.open("w") as lines:
        lines.write('{"event": "worker started"}\n')
        for _ in range(3):
            await write(acting, 3, new_id())
            await seal_all(own_maintenance, own_settings, own_superuser)
        for row in await own_superuser.fetch("SELECT number, seal FROM audit_segments ORDER BY number"):
            lines.write(
                json.dumps({"event": "audit.sealed", "number": row["number"], "seal": row["seal"].hex()}) + "\n"
            )
    return await rows_in_order(own_superuser), anchors


async def seal_all(maintenance: Database, settings: Settings, superuser: asyncpg.Connection[Any]) -> None:
    """Seal every row there is; waits first, because a transaction in another database holds the horizon back too."""
    for _ in range(1000):
        if await superuser.fetchval(
            "SELECT coalesce(max(txid) FILTER (WHERE cluster <> 77), 0)"
            " < (pg_snapshot_xmin(pg_current_snapshot())::text)::bigint FROM audit_log"
        ):
            await audit.seal(maintenance, settings)
            return
        await asyncio.sleep(0.01)
    raise AssertionError("some transaction holds the horizon back for ten seconds")


async def test_an_untouched_log_verifies(
    sealed: tuple[list[UUID], Path], own_maintenance: Database, own_settings: Settings
) -> None:
    report = await audit.verify(own_maintenance, own_settings, sealed[1])
    assert report.ok, report.problems
    assert (report.rows, report.segments) == (9, 3)


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda tamper: tamper.__name__.strip("_"))
async def test_tampering_is_named(
    tamper: Tamper,
    sealed: tuple[list[UUID], Path],
    own_maintenance: Database,
    own_settings: Settings,
    own_superuser: asyncpg.Connection[Any],
) -> None:
    ids, anchors = sealed
    kind, what = await tamper(own_superuser, ids)
    report = await audit.verify(own_maintenance, own_settings, anchors)
    assert not report.ok
    assert any(found == kind and what in words for found, words in report.problems), report.problems


async def test_without_the_anchors_a_cut_tail_goes_unseen(
    sealed: tuple[list[UUID], Path],
    own_maintenance: Database,
    own_settings: Settings,
    own_superuser: asyncpg.Connection[Any],
) -> None:
    """It bites: the limit that the module's docstring states."""
    await _cut_the_tail_with_its_seals(own_superuser, sealed[0])
    assert (await audit.verify(own_maintenance, own_settings)).ok


async def test_a_seal_needs_the_key(
    sealed: tuple[list[UUID], Path], own_maintenance: Database, own_settings: Settings
) -> None:
    other = own_settings.model_copy(update={"audit_seal_key": SecretStr("the key of somebody else, 32 bytes")})
    report = await audit.verify(own_maintenance, other)
    assert report.counts == {"altered": 3}


async def test_rows_that_nobody_seals_are_reported(
    acting: Acting, empty_log: None, own_maintenance: Database, own_settings: Settings
) -> None:
    await write(acting, 2)
    assert (await audit.verify(own_maintenance, own_settings)).ok
    clock.advance(timedelta(minutes=2))
    report = await audit.verify(own_maintenance, own_settings)
    assert report.counts == {"late": 1}


async def test_verification_goes_on_past_a_hundred_problems(
    acting: Acting,
    empty_log: None,
    own_maintenance: Database,
    own_settings: Settings,
    own_superuser: asyncpg.Connection[Any],
) -> None:
    await _plant(acting, MOST_ROWS + 200)
    await seal_all(own_maintenance, own_settings, own_superuser)
    report = await audit.verify(own_maintenance, own_settings)
    assert report.ok, report.problems
    assert (report.rows, report.segments) == (MOST_ROWS + 200, 2)
    await as_attacker(own_superuser, "UPDATE audit_log SET outcome = 'denied'")
    report = await audit.verify(own_maintenance, own_settings)
    assert report.counts == {"changed": MOST_ROWS + 200}
    assert len(report.problems) == 100


async def _plant(acting: Acting, count: int) -> None:
    async with acting(actor=SYSTEM) as ctx:
        for _ in range(count):
            await audit.record(ctx, "things.touch", audit.Changes(), {})


async def test_a_restored_log_goes_on_being_sealed_in_the_new_cluster(
    sealed: tuple[list[UUID], Path],
    acting: Acting,
    own_maintenance: Database,
    own_settings: Settings,
    own_superuser: asyncpg.Connection[Any],
) -> None:
    """After dump and restore the transaction numbers start again below those that are already sealed."""
    await as_attacker(own_superuser, "TRUNCATE audit_log, audit_segments")
    await write(acting, 3)
    # What a dump brings along: rows of another cluster, with higher transaction numbers, sealed there in part.
    await as_attacker(own_superuser, "UPDATE audit_log SET cluster = 77, txid = txid + 1000000")
    await seal_all(own_maintenance, own_settings, own_superuser)
    await write(acting, 2)
    await seal_all(own_maintenance, own_settings, own_superuser)
    report = await audit.verify(own_maintenance, own_settings)
    assert report.ok, report.problems
    assert (report.rows, report.segments) == (5, 2)


# Sealing under load


async def test_a_row_that_commits_late_is_sealed_and_a_cursor_on_the_id_would_miss_it(
    acting: Acting,
    empty_log: None,
    own_maintenance: Database,
    own_settings: Settings,
    own_superuser: asyncpg.Connection[Any],
) -> None:
    """It bites: the obvious `id > last` skips the slow transaction for ever."""
    naive: list[UUID] = []

    async def look_naively() -> None:
        last = naive[-1] if naive else UUID(int=0)
        rows = await own_superuser.fetch("SELECT id FROM audit_log WHERE id > $1 ORDER BY id", last)
        naive.extend(row["id"] for row in rows)

    async with acting(actor=ADA) as slow:
        await audit.record(slow, "things.slow", audit.Changes(), {})
        await write(acting, 3)
        await look_naively()
        assert await audit.seal(own_maintenance, own_settings) == 0  # the slow one holds the horizon
    await seal_all(own_maintenance, own_settings, own_superuser)
    await look_naively()
    written = await rows_in_order(own_superuser)
    assert len(written) == 4
    assert len(naive) == 3
    report = await audit.verify(own_maintenance, own_settings)
    assert report.ok, report.problems
    assert report.rows == 4


async def test_sealing_under_concurrent_writers_misses_no_row(
    acting: Acting,
    empty_log: None,
    own_maintenance: Database,
    own_settings: Settings,
    own_superuser: asyncpg.Connection[Any],
) -> None:
    done = asyncio.Event()

    async def writer(number: int) -> None:
        for turn in range(25):
            async with acting(tenant=new_id(), actor=ADA) as ctx:
                await audit.record(ctx, "things.touch", audit.Changes(), {"turn": turn})
                if turn % 3 == number % 3:
                    await ctx.work.raw.execute("SELECT pg_sleep(0.004)")  # some commit later than they wrote

    async def sealer() -> int:
        rounds = 0
        while not done.is_set():
            rounds += bool(await audit.seal(own_maintenance, own_settings))
        return rounds

    sealers = [asyncio.create_task(sealer()) for _ in range(2)]
    await asyncio.gather(*(writer(number) for number in range(8)))
    done.set()
    rounds = sum(await asyncio.gather(*sealers))
    await seal_all(own_maintenance, own_settings, own_superuser)
    report = await audit.verify(own_maintenance, own_settings)
    assert report.ok, report.problems
    assert report.rows == 200
    assert rounds >= 1, "no sealer found anything while the writers wrote"


def test_a_moment_is_stored_in_utc() -> None:
    assert plain(datetime.fromisoformat("2026-07-01T12:00:00+02:00")) == "2026-07-01T10:00:00+00:00"
