"""Every way of tampering with the audit log is named, and sealing misses no row."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest
from pydantic import SecretStr

from service.core import clock
from service.core.context import SYSTEM
from service.core.database import Database
from service.core.ids import new_id
from service.core.settings import Settings, get_settings
from service.guardrails import audit
from service.guardrails.audit.changes import plain
from service.guardrails.audit.log import COLUMNS, row_hash
from service.guardrails.audit.seal import MOST_ROWS, merkle_root, sign
from tests.guardrails.audit_at_work import ADA, as_attacker, rows_in_order, seal_all, write

if TYPE_CHECKING:
    from tests.guardrails.durability import Acting

pytest_plugins = ("tests.guardrails.durability", "tests.guardrails.sealed_log")


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
