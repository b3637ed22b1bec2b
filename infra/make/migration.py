"""`make migration NAME="pre add colour"`: write what turns the present schema into the models' schema.

Compares with a PostgreSQL of its own, so that nobody's half-tried change ends up in the file. Read what it wrote.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.config import Config

from infra.sandbox.postgres import EmbeddedPostgres

ROOT = Path(__file__).resolve().parents[2]
USAGE = (
    'Say what it does, and when it runs: make migration NAME="pre add colour" '
    "(pre: before the new code runs, may only add; post: after it, may remove)."
)


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if not name.startswith(("pre ", "post ")):
        raise SystemExit(USAGE)
    with tempfile.TemporaryDirectory() as directory, EmbeddedPostgres(directory, durable=False) as postgres:
        postgres.create_database("ballast")
        os.environ["DATABASE_OWNER_URL"] = postgres.url("ballast_owner", "ballast")
        config = Config(ROOT / "alembic.ini")
        command.upgrade(config, "head")
        command.revision(config, message=name, autogenerate=True)


if __name__ == "__main__":
    main()
