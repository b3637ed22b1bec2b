"""An auditor reads and verifies the log: the owner's page and its exports, and the bundle that needs none of us."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from uuid import UUID
from zipfile import ZipFile

import asyncpg
import pytest

from service.core import clock
from service.core.context import SYSTEM, Caller, Context, Resources
from service.core.database import Database
from service.core.settings import Settings
from service.features.audit_log.jobs import find_damage
from service.guardrails import audit
from service.guardrails.permissions import Role
from tests.guardrails.audit_at_work import as_attacker
from tests.support.client import Client
from tests.support.factories import Factory, Person
from tests.support.processes import command
from tests.support.servers import RunningServer

pytest_plugins = "tests.guardrails.durability"
"""A database of its own: other tests plant rows that fit no seal."""


@pytest.fixture
async def house(own_settings: Settings, own_superuser: asyncpg.Connection[object], empty_log: None):  # type: ignore[no-untyped-def]
    from infra.sandbox.ports import free_port
    from service.app import close_resources, create_resources

    settings = own_settings.model_copy(update={"base_url": f"http://127.0.0.1:{free_port()}"})
    resources = create_resources(settings)
    with RunningServer(settings):
        yield Factory(own_superuser, resources, settings.base_url)
    await close_resources(resources)


async def deeds(client: Client) -> str:
    """Something happens that the log must tell; answers the indicator's id."""
    made = await client.submit("/indicators/new", name="Orders", description="", unit="")
    place = made.headers["location"]
    assert (await client.submit(f"{place}/edit", name="All orders", description="", unit="")).status_code == 303
    return place.rpartition("/")[2]


async def audit_command(settings: Settings, *words: str) -> tuple[int | None, str]:
    """As an operator on a machine that has the worker's settings."""
    given = {
        "DATABASE_MAINTENANCE_URL": settings.database_maintenance_url.get_secret_value(),
        "AUDIT_SEAL_KEY": settings.audit_seal_key.get_secret_value(),
    }
    return await command("audit", *words, **given)


async def damage(resources: Resources, maintenance: Database) -> int:
    async with maintenance.unit_of_work(read_only=True) as work:
        return len(await find_damage(Context(work, resources, SYSTEM, Caller("test"))))


async def test_an_auditor_reads_and_verifies_the_log(
    house: Factory,
    own_settings: Settings,
    own_maintenance: Database,
    own_superuser: asyncpg.Connection[object],
    tmp_path: Path,
) -> None:
    owner: Person = await house.person(Role.OWNER)
    async with await house.client(owner) as client, await house.client(await house.person(Role.OWNER)) as other:
        indicator = await deeds(client)
        theirs = await deeds(other)

        # Reading: what happened, to what, before and after; by action, by person, by time; as a file.
        page = await client.page("/audit-log")
        assert indicator in page
        assert theirs not in page
        assert "the first check is still to come" in page
        only = await client.page("/audit-log?action=indicators.update")
        assert "All orders" in only or "kept out of the log" in only
        assert "indicators.create" not in only.partition("<tbody>")[2]
        assert indicator in await client.page(f"/audit-log?actor={owner.id}")
        assert "Nothing here" in await client.page(f"/audit-log?until={(clock.now() - timedelta(days=2)).date()}")
        rows = json.loads((await client.get(f"/audit-log/export/json?actor={owner.id}")).text)
        assert {row["object_id"] for row in rows if row["action"].startswith("indicators.")} == {indicator}
        assert indicator in (await client.get("/audit-log/export/csv")).text

        # The daily look: once, whoever comes first; the page says how far all fits.
        await audit.seal(own_maintenance, own_settings)
        both = await asyncio.gather(*(audit.check_when_due(own_maintenance, own_settings) for _ in range(2)))
        assert sorted(both) == [False, True]
        assert "is as it was sealed" in await client.page("/audit-log")
        assert await damage(house.resources, own_maintenance) == 0

        # The bundle, for an outsider: this organization's rows and nobody else's.
        file = tmp_path / "audit.zip"
        code, said = await audit_command(
            own_settings, "verify", "--export", str(file), "--organization", str(owner.organization_id)
        )
        assert code == 0, said
        code, key = await audit_command(own_settings, "key")
        text = ZipFile(file).read("rows.jsonl").decode()
        assert indicator in text
        assert theirs not in text
        (tmp_path / "verify.py").write_bytes(ZipFile(file).read("verify.py"))
        verifying = [sys.executable, "-I", str(tmp_path / "verify.py"), str(file), "--key", key.strip()]
        outside = await asyncio.to_thread(subprocess.run, verifying, capture_output=True, text=True, check=False)
        assert (outside.returncode, outside.stderr) == (0, ""), outside.stdout

        # Somebody who owns the database changes one entry: a day later the page says so, and the command names it.
        row: UUID = await own_superuser.fetchval(
            "SELECT id FROM audit_log WHERE object_id = $1 AND action = 'indicators.create'", UUID(indicator)
        )
        await as_attacker(own_superuser, f"UPDATE audit_log SET actor_id = NULL WHERE id = '{row}'")
        assert not await audit.check_when_due(own_maintenance, own_settings), "not before a day has passed"
        await own_superuser.execute("UPDATE audit_checks SET checked_at = checked_at - interval '25 hours'")
        assert await audit.check_when_due(own_maintenance, own_settings)
        assert "1 entries of it did not fit their seals" in await client.page("/audit-log")
        assert await damage(house.resources, own_maintenance) == 1
        code, said = await audit_command(own_settings, "verify")
        assert code == 1
        assert f"changed: row {row}" in said


async def test_a_look_that_never_ended_is_begun_anew(
    empty_log: None, own_maintenance: Database, own_settings: Settings, own_superuser: asyncpg.Connection[object]
) -> None:
    """Its worker died in the middle."""
    await own_superuser.execute("TRUNCATE audit_checks")
    now = clock.now()
    await own_superuser.execute(
        "INSERT INTO audit_checks (id, checked_at) VALUES (gen_random_uuid(), $1)", now - timedelta(hours=1)
    )
    assert not await audit.check_when_due(own_maintenance, own_settings), "it may still be at it"
    clock.advance(timedelta(hours=3))
    assert await audit.check_when_due(own_maintenance, own_settings)


async def test_a_look_by_a_clock_that_ran_ahead_stands_for_no_other(
    empty_log: None, own_maintenance: Database, own_settings: Settings, own_superuser: asyncpg.Connection[object]
) -> None:
    """One worker whose clock was wrong for a minute would have kept the log unverified for a month."""
    await own_superuser.execute("TRUNCATE audit_checks")
    clock.advance(timedelta(days=30))
    assert await audit.check_when_due(own_maintenance, own_settings)
    clock.reset()
    assert await audit.check_when_due(own_maintenance, own_settings)
    assert not await audit.check_when_due(own_maintenance, own_settings)
