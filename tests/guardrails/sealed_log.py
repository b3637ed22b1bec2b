"""A log of nine rows in three sealed segments, and the lines that another system keeps of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest

from service.core.database import Database
from service.core.ids import new_id
from service.core.settings import Settings
from service.guardrails import audit
from tests.guardrails.audit_at_work import rows_in_order, write

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


async def seal_all(maintenance: Database, settings: Settings, superuser: asyncpg.Connection[Any]) -> None:
    """Seal every row there is; waits first, because a transaction in another database holds the horizon back too."""
    for _ in range(1000):
        if await superuser.fetchval(
            "SELECT coalesce(max(txid) FILTER (WHERE cluster <> 77), 0)"
            " < (pg_snapshot_xmin(pg_current_snapshot())::text)::bigint FROM audit_log"
        ):
            await audit.seal(maintenance, settings)
            return
        await asyncio.sleep(0.01)
    raise AssertionError("some transaction holds the horizon back for ten seconds")
