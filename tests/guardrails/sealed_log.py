"""A log of nine rows in three sealed segments, and the lines that another system keeps of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest

from service.core.database import Database
from service.core.ids import new_id
from service.core.settings import Settings
from tests.guardrails.audit_at_work import rows_in_order, seal_all, write

if TYPE_CHECKING:
    from tests.guardrails.durability import Acting


@pytest.fixture
async def sealed(
    acting: Acting,
    empty_log: None,
    own_maintenance: Database,
    own_settings: Settings,
    own_superuser: asyncpg.Connection[Any],
    tmp_path: Path,
) -> tuple[list[UUID], Path]:
    """Nine rows in three segments, and the log file with their anchors."""
    anchors = tmp_path / "worker.log"
    with anchors.open("w") as lines:
        lines.write('{"event": "worker started"}\n')
        for _ in range(3):
            await write(acting, 3, new_id())
            await seal_all(own_maintenance, own_settings, own_superuser)
        for row in await own_superuser.fetch("SELECT number, seal FROM audit_segments ORDER BY number"):
            lines.write(
                json.dumps({"event": "audit.sealed", "number": row["number"], "seal": row["seal"].hex()}) + "\n"
            )
    return await rows_in_order(own_superuser), anchors
