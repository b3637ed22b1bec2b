"""Migrations: forward only, from empty, equal to the models, and polite to a running site."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from service.catalog import load_tables
from service.core.database import split_tls
from service.core.migrate import MIGRATIONS, alembic_config, head
from service.core.settings import Settings
from tests.conftest import TestServers

NAME = re.compile(r"^\d{4}_\d{2}_\d{2}_(pre|post)_[a-z0-9_]+\.py$")


def revisions() -> list[Any]:
    found = list(ScriptDirectory.from_config(alembic_config()).walk_revisions())
    assert found, "the scan saw no migration"
    return found


def test_names_carry_date_and_phase() -> None:
    files = [path.name for path in (MIGRATIONS / "versions").glob("*.py")]
    assert len(files) == len(revisions())
    odd = [name for name in files if not NAME.match(name)]
    assert not odd, f"{odd}: YYYY_MM_DD_pre_slug.py runs before the code is deployed, ..._post_slug.py after"


def test_the_code_and_alembic_name_the_same_head() -> None:
    assert head() == ScriptDirectory.from_config(alembic_config()).get_current_head()


def test_there_is_one_line_of_history() -> None:
    assert len(ScriptDirectory.from_config(alembic_config()).get_heads()) == 1, "two heads: rebase the younger one"


def test_nothing_goes_backward() -> None:
    backward = [revision.revision for revision in revisions() if "def downgrade" in Path(revision.path).read_text()]
    assert not backward, f"{backward}: a downgrade that ran in production has lost data; mend forward"


def test_migrations_wait_briefly_for_locks() -> None:
    env = (MIGRATIONS / "env.py").read_text()
    assert "SET lock_timeout" in env
    assert "pg_advisory_lock" in env


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


async def test_upgrade_from_empty_matches_the_models(empty_database: str) -> None:
    """No drift: autogenerate has nothing to add, or the next person's migration would carry a surprise."""
    import asyncio

    await asyncio.to_thread(command.upgrade, alembic_config(), "head")
    engine = create_async_engine(split_tls(empty_database)[0])

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
    assert not found, f"models and migrations differ: {found}; write a migration"


async def test_the_running_database_is_at_head(superuser: asyncpg.Connection[Any], settings: Settings) -> None:
    assert await superuser.fetchval("SELECT version_num FROM alembic_version") == head()
