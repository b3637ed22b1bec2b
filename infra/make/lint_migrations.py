"""Turn each migration into SQL, without a database, and let squawk look for what would stop a busy site.

`.squawk.toml` says which rules do not apply here and why.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

ROOT = Path(__file__).resolve().parents[2]


def sql_of(config: Config, before: str, revision: str) -> str:
    """What one migration would send to PostgreSQL."""
    config.output_buffer = io.StringIO()
    with contextlib.redirect_stdout(config.output_buffer):
        command.upgrade(config, f"{before}:{revision}", sql=True)
    return config.output_buffer.getvalue()


def main() -> int:
    config = Config(ROOT / "alembic.ini")
    scripts = [*ScriptDirectory.from_config(config).walk_revisions()][::-1]
    with tempfile.TemporaryDirectory() as directory:
        files = []
        for script in scripts:
            before = script.down_revision
            sql = sql_of(config, before if isinstance(before, str) else "base", script.revision)
            file = Path(directory) / f"{Path(script.path).stem}.sql"
            file.write_text(sql)
            files.append(file)
        if not files:
            print("there are no migrations to lint")
            return 1
        squawk = Path(sys.executable).with_name("squawk")
        return subprocess.run([squawk, "--config", ROOT / ".squawk.toml", *files], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
