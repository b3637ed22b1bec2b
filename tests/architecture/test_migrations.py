"""Migrations: forward only, from empty, equal to the models, and polite to a running site."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from service.catalog import load_tables
from service.core import migrate
from service.core.database import split_tls
from service.core.migrate import alembic_config, head
from service.core.settings import Settings
from tests.conftest import TEMPLATE, TestServers

INVALID = "SELECT string_agg(indexrelid::regclass::text, ', ') FROM pg_index WHERE NOT indisvalid"
NAME = re.compile(r"^\d{4}_\d{2}_\d{2}_(pre|post)_[a-z0-9_]+\.py$")


def revisions() -> list[Any]:
    found = list(ScriptDirectory.from_config(alembic_config()).walk_revisions())
    assert found, "the scan saw no migration"
    return found


def test_names_carry_date_and_phase() -> None:
    files = [path.name for path in (migrate.MIGRATIONS / "versions").glob("*.py")]
    assert len(files) == len(revisions()), f"{files}: a file here is no migration, or two have the same `revision`"
    odd = [name for name in files if not NAME.match(name)]
    assert not odd, f"{odd}: YYYY_MM_DD_pre_slug.py runs before the code is deployed, ..._post_slug.py after"


def test_the_code_and_alembic_name_the_same_head() -> None:
    ours, theirs = head(), ScriptDirectory.from_config(alembic_config()).get_current_head()
    assert ours == theirs, (
        f"readiness waits for {ours} and `migrate` goes to {theirs}: `revision` and `down_revision` are plain strings"
    )


def test_there_is_one_line_of_history() -> None:
    assert len(ScriptDirectory.from_config(alembic_config()).get_heads()) == 1, "two heads: rebase the younger one"


def test_nothing_goes_backward() -> None:
    backward = [revision.revision for revision in revisions() if "def downgrade" in Path(revision.path).read_text()]
    assert not backward, f"{backward}: a downgrade that ran in production has lost data; mend forward"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of migrations/ to add to, which everything here takes for the real one."""
    head()  # read once per process: the probes below must not be what everybody else believes in
    copy = tmp_path / "migrations"
    shutil.copytree(migrate.MIGRATIONS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(migrate, "MIGRATIONS", copy)
    return copy


def add(folder: Path, name: str = "2030_01_01_pre_probe.py", *, alone: bool = False, more: str = "") -> None:
    """One more migration; it notes in a table how it found its connection."""
    (folder / "versions" / name).write_text(
        f"""
from alembic import op

revision = "probe"
down_revision = {None if alone else head()!r}


def upgrade():
    op.execute("CREATE TABLE probe AS SELECT current_setting('lock_timeout') AS lock_timeout,"
        " current_setting('statement_timeout') AS statement_timeout, current_user AS role,"
        " EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid()) AS alone")
{more}
"""
    )


@pytest.fixture
def empty_database(servers: TestServers, worker_name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    from service.core.settings import get_settings

    name = f"empty_{worker_name}"
    servers.postgres.create_database(name)
    url = servers.postgres.url("ballast_owner", name)
    monkeypatch.setenv("DATABASE_OWNER_URL", url)
    get_settings.cache_clear()
    yield url
    monkeypatch.undo()
    get_settings.cache_clear()
    servers.postgres.drop_database(name)


async def found_inside(url: str) -> asyncpg.Record:
    """Run every migration, and what the added one found."""
    await asyncio.to_thread(command.upgrade, alembic_config(), "head")
    db = await asyncpg.connect(url)
    try:
        return await db.fetchrow("SELECT * FROM probe")
    finally:
        await db.close()


async def test_migrations_wait_briefly_for_locks(folder: Path, empty_database: str) -> None:
    add(folder)
    found = dict(await found_inside(empty_database))
    assert found == {"lock_timeout": "1s", "statement_timeout": "10min", "role": "ballast_owner", "alone": True}, (
        f"{found}: migrations/env.py sets the timeouts and takes the advisory lock before the first migration runs; "
        "without them one ALTER TABLE that waits stops the site"
    )


@pytest.mark.parametrize("line", ["SET lock_timeout", "SET statement_timeout", "SELECT pg_advisory_lock"])
async def test_a_migration_that_would_wait_for_ever_is_found(folder: Path, empty_database: str, line: str) -> None:
    env = folder / "env.py"
    env.write_text("".join(kept for kept in env.read_text().splitlines(keepends=True) if line not in kept))
    with pytest.raises(AssertionError, match="sets the timeouts and takes the advisory lock"):
        await test_migrations_wait_briefly_for_locks(folder, empty_database)


async def drift_of(url: str) -> list[Any]:
    engine = create_async_engine(split_tls(url)[0])

    def drift(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_name": lambda name, kind, _: not (kind == "table" and str(name).startswith("pgqueuer")),
            },
        )
        return list(compare_metadata(context, load_tables()))

    async with engine.connect() as connection:
        found = await connection.run_sync(drift)
    await engine.dispose()
    return found


async def test_upgrade_from_empty_matches_the_models(empty_database: str) -> None:
    """No drift: autogenerate has nothing to add, or the next person's migration would carry a surprise."""
    await asyncio.to_thread(command.upgrade, alembic_config(), "head")
    found = await drift_of(empty_database)
    assert not found, f"models and migrations differ: {found}; write a migration"


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ("ALTER TABLE indicators ADD COLUMN probe text", "remove_column"),
        ("ALTER TABLE indicators ALTER COLUMN unit DROP DEFAULT", "modify_default"),
        ("DROP INDEX ix_invitations_email", "add_index"),
    ],
)
async def test_drift_is_found(servers: TestServers, worker_name: str, damage: str, named: str) -> None:
    name = f"drifted_{worker_name}"
    servers.postgres.create_database(name, template=TEMPLATE)
    try:
        servers.postgres.psql(damage, name)
        assert named in str(await drift_of(servers.postgres.url("ballast_owner", name)))
    finally:
        servers.postgres.drop_database(name)


BESIDE_THE_TRAFFIC = (
    "sealed_columns", "find_a_person", "dead_letters", "staff_reads", "staff_looks", "staff_walks",
)  # fmt: skip


async def test_an_index_that_gave_up_at_a_busy_lock_is_built_by_the_next_try(empty_database: str) -> None:
    """What stood before it is committed by then, and the name is taken by an index that nobody uses."""
    todo = [one for one in reversed(revisions()) if one.revision.partition("_pre_")[2] in BESIDE_THE_TRAFFIC]
    assert len(todo) == len(BESIDE_THE_TRAFFIC)
    db = await asyncpg.connect(empty_database)
    try:
        for one in todo:
            await asyncio.to_thread(command.upgrade, alembic_config(), one.down_revision)
            async with db.transaction(isolation="repeatable_read"):
                await db.fetchval("SELECT count(*) FROM pg_class")  # a report: its snapshot is what the build waits for
                with pytest.raises(DBAPIError, match="lock timeout"):
                    await asyncio.to_thread(command.upgrade, alembic_config(), one.revision)
            assert await db.fetchval(INVALID), "the case is there"
            await asyncio.to_thread(command.upgrade, alembic_config(), one.revision)
            assert not await db.fetchval(INVALID)
    finally:
        await db.close()


async def test_the_running_database_is_at_head(superuser: asyncpg.Connection[Any], settings: Settings) -> None:
    assert await superuser.fetchval("SELECT version_num FROM alembic_version") == head(), (
        "run `python -m service migrate`"
    )


@pytest.mark.parametrize(
    ("rule", "migration", "sentence"),
    [
        (test_names_carry_date_and_phase, {"name": "probe.py"}, "YYYY_MM_DD_pre_slug.py runs before"),
        (test_the_code_and_alembic_name_the_same_head, {}, "readiness waits for"),
        (test_there_is_one_line_of_history, {"alone": True}, "rebase the younger one"),
        (test_nothing_goes_backward, {"more": "def downgrade(): ..."}, "mend forward"),
    ],
)
def test_each_rule_bites(rule: Callable[[], None], migration: dict[str, Any], sentence: str, folder: Path) -> None:
    add(folder, **migration)
    with pytest.raises(AssertionError, match=re.escape(sentence)):
        rule()
