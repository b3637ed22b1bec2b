"""The audit log: written with the change, filtered, and never changed afterwards. Its seals: test_audit_seals."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import Table
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from structlog.testing import capture_logs

from service.core import logging
from service.core.database import LOST, Base
from service.core.errors import Forbidden
from service.core.ids import new_id
from service.guardrails import audit
from service.guardrails.audit.changes import LONGEST_TEXT, MOST_FIELDS, MOST_OBJECTS, plain
from service.guardrails.audit.log import COLUMNS, row_hash
from service.guardrails.personal_data import content, hide_in_logs, internal, personal, secret
from tests.guardrails.audit_at_work import ADA, newest, write

if TYPE_CHECKING:
    from tests.guardrails.durability import Acting

pytest_plugins = "tests.guardrails.durability"


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


@pytest.mark.parametrize("statement", ["UPDATE audit_log SET outcome = ''", "TRUNCATE audit_log"])
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
