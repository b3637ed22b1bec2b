"""The log forgets when its year is over and not a day before; its seals stay, and what is left still fits them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest

from service.core import clock
from service.core.context import Resources
from service.core.database import Database
from service.core.settings import Profile, Settings
from service.guardrails import audit
from service.guardrails.audit import bundle
from service.guardrails.purge import purge_expired
from tests.guardrails.audit_at_work import as_attacker, seal_all, write
from tests.guardrails.test_audit_bundle import run

if TYPE_CHECKING:
    from tests.guardrails.durability import Acting

pytest_plugins = ("tests.guardrails.durability", "tests.guardrails.sealed_log")

OVER = timedelta(days=401)


async def grow_old(superuser: asyncpg.Connection[Any], ids: list[UUID]) -> None:
    """As if these had been written more than 400 days ago."""
    listed = ", ".join(f"'{one}'" for one in ids)
    await as_attacker(superuser, f"UPDATE audit_log SET at = at - interval '401 days' WHERE id IN ({listed})")


async def test_rows_whose_year_is_over_go_and_what_is_left_verifies(
    sealed: tuple[list[UUID], Path],
    own_maintenance: Database,
    own_resources: Resources,
    own_settings: Settings,
    own_superuser: asyncpg.Connection[Any],
    tmp_path: Path,
) -> None:
    ids, anchors = sealed
    await grow_old(own_superuser, ids[:4])
    assert (await purge_expired(own_resources))["audit_log"] == 4
    assert await own_superuser.fetchval("SELECT count(*) FROM audit_log") == 5
    named = await audit.verify(own_maintenance, own_settings, anchors)
    assert named.counts == {"missing": 4}, "their ids say that they were young: nobody may have deleted them"

    clock.advance(OVER)
    report = await audit.verify(own_maintenance, own_settings, anchors)
    assert (report.ok, report.rows, report.purged, report.segments) == (True, 5, 4, 3), report.problems
    file, key = tmp_path / "audit.zip", bundle.public_key(own_settings)
    assert await bundle.export(own_maintenance, own_settings, file, report) == 5
    assert run(file, key).returncode == 0, run(file, key).stdout
    strict = own_settings.model_copy(update={"compliance_profile": Profile.HIPAA})
    assert (await audit.verify(own_maintenance, strict)).counts == {"missing": 4}, "six years there"


async def test_six_years_under_the_profile(
    sealed: tuple[list[UUID], Path], own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    await grow_old(own_superuser, sealed[0][:2])
    under = own_resources.settings.model_copy(update={"compliance_profile": Profile.HIPAA})
    others = Resources(under, own_resources.database, own_resources.redis, own_resources.maintenance)
    assert (await purge_expired(others))["audit_log"] == 0
    assert (await purge_expired(own_resources))["audit_log"] == 2


@pytest.mark.parametrize("mode", ["origin", "replica"])
async def test_nobody_deletes_a_row_before_its_time(
    acting: Acting, own_maintenance: Database, own_superuser: asyncpg.Connection[Any], mode: str
) -> None:
    await write(acting)
    await own_superuser.execute(f"SET session_replication_role = {mode}")
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await own_superuser.execute("DELETE FROM audit_log")
    finally:
        await own_superuser.execute("RESET session_replication_role")
    clock.advance(OVER)  # a purge whose clock runs ahead
    async with own_maintenance.unit_of_work() as work:
        assert await work.raw.execute("DELETE FROM audit_log") == "DELETE 0"


async def test_the_daily_look_notices_that_the_end_was_cut_off_with_its_seals(
    sealed: tuple[list[UUID], Path],
    own_maintenance: Database,
    own_settings: Settings,
    own_superuser: asyncpg.Connection[Any],
) -> None:
    """What remains fits; but the look before had counted more."""
    await own_superuser.execute("TRUNCATE audit_checks")
    assert await audit.check_when_due(own_maintenance, own_settings)
    await as_attacker(
        own_superuser,
        f"DELETE FROM audit_log WHERE id IN ('{sealed[0][-1]}', '{sealed[0][-2]}', '{sealed[0][-3]}')",
        "DELETE FROM audit_segments WHERE number = 3",
    )
    await seal_all(own_maintenance, own_settings, own_superuser)
    clock.advance(timedelta(days=1, minutes=1))
    assert await audit.check_when_due(own_maintenance, own_settings)
    found = await own_superuser.fetch("SELECT segments, problems FROM audit_checks ORDER BY checked_at")
    assert [tuple(row) for row in found] == [(3, 0), (2, 1)]
