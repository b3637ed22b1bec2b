"""The list of a breach, played at a table: what does a stolen session have on its conscience?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from service.core.ids import new_id
from service.core.settings import Settings
from service.guardrails.permissions import Role
from tests.support.factories import Factory
from tests.support.processes import command

ROOT = Path(__file__).parents[2]
BREACH = ROOT / "ops" / "breach.md"


async def test_whose_data_a_thief_has_touched(
    factory: Factory, superuser: asyncpg.Connection[Any], settings: Settings
) -> None:
    robbed, bystander, known = await factory.person(Role.OWNER), await factory.person(Role.OWNER), new_id()
    for person in (robbed, bystander):
        async with await factory.client(person) as client:
            assert (await client.submit("/organization", name="Renamed")).status_code == 303
    theirs = "SELECT session_ref FROM audit_log WHERE actor_id = $1 AND session_ref <> '' ORDER BY id LIMIT 1"
    stolen = await superuser.fetchval(theirs, robbed.id)
    assert len(stolen) == 16
    key, elsewhere, network = new_id(), new_id(), "203.0.113.0/24"

    async def plant(session: str, *, hours: float = 1.0, **columns: Any) -> None:
        at = datetime.now(UTC) - timedelta(hours=hours)
        row = {
            "id": UUID(int=(int(at.timestamp() * 1000) << 80) | (new_id().int & ((1 << 80) - 1))), "at": at,
            "organization_id": robbed.organization_id, "actor_kind": "user", "actor_id": robbed.id,
            "action": "indicators.update", "object_type": "indicators", "object_id": new_id(), "outcome": "done",
            "reason": "", "request_id": "r", "session_ref": session, "address_prefix": network, "changes": "{}",
            "facts": "{}", "row_hash": b"planted", **columns,
        }  # fmt: skip
        marks = ", ".join(f"${number + 1}" for number in range(len(row)))
        await superuser.execute(f"INSERT INTO audit_log ({', '.join(row)}) VALUES ({marks})", *row.values())

    await plant(stolen, action="members.change_role", object_type="users", object_id=known)
    await plant(stolen, hours=9, outcome="read", action="api.read_everything", object_type="")
    await plant(stolen, outcome="denied", organization_id=elsewhere, object_type="users", object_id=new_id())
    await plant(stolen, hours=100, organization_id=elsewhere)
    await plant("", actor_kind="api_key", actor_id=key, organization_id=bystander.organization_id)

    async def ask(*words: str) -> list[str]:
        since = f"{datetime.now(UTC) - timedelta(hours=72):%Y-%m-%dT%H:%M:%S}"
        url = settings.database_maintenance_url.get_secret_value()
        code, said = await command("audit", "touched", "--since", since, *words, DATABASE_MAINTENANCE_URL=url)
        assert code == 0, said
        return said.splitlines()

    told = await ask("--session", stolen)
    assert [line for line in told if line.startswith("organization ")] == [f"organization {robbed.organization_id} 3"]
    assert {line for line in told if line.startswith("person ")} == {f"person {robbed.id} 3", f"person {known} 1"}
    assert "records users by members.change_role 1" in told
    assert f"network {network} 3" in told, "and what to ask about next"
    assert "3 deeds in 1 organizations, 2 persons, 0 rows in lists of people's data, 1 more in vain" in told[-1]
    assert f"organization {bystander.organization_id} 1" in await ask("--key", str(key))
    widened = await ask("--address", "203.0.113.77")
    assert {f"organization {one.organization_id} {n}" for one, n in ((robbed, 2), (bystander, 1))} <= set(widened)
    assert f"session {stolen} 4" in await ask("--actor", str(robbed.id))

    # A colleague who takes a list of people away, or pages through it, has touched everybody in it.
    thief = await factory.person(staff=True)
    async with await factory.client(thief, "password", "totp") as browser:
        taken = {"next": "/staff/people", "reason": "I would like to know them all"}
        assert "list " not in " ".join(await ask("--actor", str(thief.id)))
        assert (await browser.submit("/staff/reasons", page="/staff", **taken)).status_code == 303
        rows = (await browser.get(f"/staff/people/csv?q={robbed.email}")).text.count("\n") - 1
        assert (rows, robbed.email in await browser.page(f"/staff/people?q={robbed.email}")) == (1, True)
    told = await ask("--actor", str(thief.id))
    assert f"list /staff/people {2 * rows}" in told
    assert f"{2 * rows} rows in lists of people's data" in told[-1]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "Say what to look for"),
        (("--session", "a cookie"), "16 letters and digits"),
        (("--address", "somewhere"), "takes an IP address"),
    ],
)
async def test_what_would_find_nothing_is_refused(words: tuple[str, ...], sentence: str, settings: Settings) -> None:
    url = settings.database_maintenance_url.get_secret_value()
    code, said = await command("audit", "touched", "--since", "2026-01-01", *words, DATABASE_MAINTENANCE_URL=url)
    assert code == 1
    assert sentence in said


def test_the_list_is_found_at_night() -> None:
    assert "python -m service" not in BREACH.read_text(), "at night it is `ops/on service`, wherever it runs"
    assert "ops/on service audit touched" in BREACH.read_text()
    assert "(breach.md)" in (ROOT / "ops" / "README.md").read_text()
    assert "(../breach.md)" in (ROOT / "ops" / "runbooks" / "BreakGlass.md").read_text()
