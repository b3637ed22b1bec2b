"""Brings the database to the code's schema: waits for its turn, and tries again when a lock is busy.

Alembic is imported by what migrates, and by nothing else: the web process only needs to know the newest revision, and
would carry twelve megabytes for it.
"""

from __future__ import annotations

import ast
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import stamina
from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
LOCK_NOT_AVAILABLE = "55P03"


@lru_cache(maxsize=1)
def revisions() -> dict[str, str | None]:
    """Every revision in the code and the one before it, read from the files without running them."""
    found: dict[str, str | None] = {}
    for file in sorted((MIGRATIONS / "versions").glob("*.py")):
        values = {
            target.id: node.value.value
            for node in ast.parse(file.read_text()).body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        before = values["down_revision"]
        found[str(values["revision"])] = str(before) if before is not None else None
    return found


def head() -> str:
    """The newest revision in the code: the schema version that pages and readiness compare with."""
    [newest] = set(revisions()) - set(revisions().values())
    return newest


def alembic_config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def _lock_is_busy(error: Exception) -> bool:
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == LOCK_NOT_AVAILABLE


@stamina.retry(on=_lock_is_busy, attempts=10, wait_initial=0.5, wait_max=10)
def upgrade() -> None:
    """Run every pending migration as DATABASE_OWNER_URL; safe to call from several processes at once."""
    from alembic import command

    command.upgrade(alembic_config(), "head")
