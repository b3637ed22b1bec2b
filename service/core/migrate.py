"""Brings the database to the code's schema: waits for its turn, and tries again when a lock is busy."""

from __future__ import annotations

from pathlib import Path

import stamina
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
LOCK_NOT_AVAILABLE = "55P03"


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def head() -> str:
    """The newest revision in the code: the schema version that pages and readiness compare with."""
    revision = ScriptDirectory.from_config(alembic_config()).get_current_head()
    assert revision is not None, "there is at least one migration"  # noqa: S101
    return revision


def _lock_is_busy(error: Exception) -> bool:
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == LOCK_NOT_AVAILABLE


@stamina.retry(on=_lock_is_busy, attempts=10, wait_initial=0.5, wait_max=10)
def upgrade() -> None:
    """Run every pending migration as DATABASE_OWNER_URL; safe to call from several processes at once."""
    command.upgrade(alembic_config(), "head")
