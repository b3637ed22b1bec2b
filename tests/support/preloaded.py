"""What the fork server imports before its first fork: libraries, and what every process of the service has.

Not the features: a command that forgets to load what it needs is to fail here as it would in a shell.
"""

from __future__ import annotations

from importlib import import_module

LIBRARIES = ("alembic.command", "alembic.config", "rich.console", "stripe", "typer.rich_utils", "uvicorn", "uvloop")

for name in (*LIBRARIES, "service.app"):
    import_module(name)
