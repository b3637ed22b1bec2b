"""`make migration NAME="pre add colour"`: write what turns the present schema into the models' schema.

Compares with a PostgreSQL of its own, so that nobody's half-tried change ends up in the file. Read what it wrote.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from alembic import command
from alembic.config import Config

from infra.sandbox.postgres import EmbeddedPostgres

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 32  # Alembic keeps the revision in a varchar(32)
USAGE = (
    'Say what it does, and when it runs: make migration NAME="pre add colour" '
    "(pre: before the new code runs, may only add; post: after it, may remove)."
)


def revision_id(name: str, today: datetime) -> str:
    """The revision is called like its file: 2026_11_22_pre_add_colour. Raises SystemExit with what is wrong."""
    if not re.fullmatch(r"(pre|post)( [a-z0-9]+)+", name):
        raise SystemExit(USAGE)
    revision = f"{today:%Y_%m_%d}_{name.replace(' ', '_')}"
    if len(revision) > LONGEST:
        raise SystemExit(f"Shorten NAME by {len(revision) - LONGEST} characters: the version table holds {LONGEST}.")
    return revision


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    revision = revision_id(name, datetime.now(UTC))
    with tempfile.TemporaryDirectory() as directory, EmbeddedPostgres(directory, durable=False) as postgres:
        postgres.create_database("ballast")
        os.environ["DATABASE_OWNER_URL"] = postgres.url("ballast_owner", "ballast")
        config = Config(ROOT / "alembic.ini")
        command.upgrade(config, "head")
        command.revision(config, message=name, autogenerate=True, rev_id=revision)


if __name__ == "__main__":
    main()
