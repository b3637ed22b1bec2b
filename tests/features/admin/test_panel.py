"""The staff panel: only for staff, only with a fresh proof of identity, and it does what it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from service.core import clock
from service.guardrails.permissions import Role
from tests.support.client import Client
from tests.support.factories import Factory, Person

SWITCH = "/staff/switches/read_only"


async def act(client: Client, path: str, **fields: str) -> httpx.Response:
    return await client.post(path, csrf=client.csrf, **fields)


@pytest.fixture
async def staff_person(factory: Factory) -> Person:
    return await factory.person(Role.OWNER, staff=True)


@pytest.fixture
async def staff(factory: Factory, staff_person: Person) -> AsyncIterator[Client]:
    async with await factory.client(staff_person, "password", "totp") as client:
        yield client


@pytest.fixture(autouse=True)
async def switches_off(superuser: asyncpg.Connection[Any], staff: Client) -> AsyncIterator[None]:
    """Whatever happens here, the other tests find a service that takes changes."""
    yield
    clock.reset()
    await superuser.execute("DELETE FROM switches")
    # Each process believes what it read for up to two seconds.
    for _ in range(100):
        if (await staff.submit("/organizations/new", name="Probe")).status_code == 303:
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError("changes are still paused: the tests after this one would fail")


@pytest.fixture
async def dead_letter(superuser: asyncpg.Connection[Any]) -> int:
    found: int = await superuser.fetchval(
        "INSERT INTO pgqueuer (priority, status, entrypoint, payload, heartbeat, created, updated, attempts, headers)"
        " VALUES (0, 'failed', 'nobody.listens', '{}', now(), now(), now(), 3,"
        " jsonb_build_object('error', 'MailFailed')) RETURNING id"
    )
    return found


@pytest.mark.parametrize("role", list(Role))
async def test_nobody_else_gets_in(factory: Factory, role: Role) -> None:
    async with await factory.client(await factory.person(role)) as client:
        assert (await client.get("/staff")).status_code == 403
        assert (await act(client, SWITCH, on="on", reason="mine")).status_code == 403
        assert (await act(client, "/staff/dead-letters/replay")).status_code == 403
        assert "/staff" not in await client.page("/members"), "what one may not open is not in the menu"


async def test_without_a_login_there_is_the_login_page(factory: Factory) -> None:
    async with await factory.client() as client:
        assert (await client.get("/staff")).headers["location"].startswith("/login")


async def test_read_only_stops_changes_shows_why_and_ends_again(staff: Client, factory: Factory) -> None:
    async with await factory.client(await factory.person(Role.OWNER)) as customer:
        turned = await staff.submit(SWITCH, page="/staff", on="on", reason="We move to a bigger database.")
        assert turned.status_code == 303
        assert "We move to a bigger database." in await staff.page("/staff")
        refused = await customer.submit("/organizations/new", name="Not now")
        assert refused.status_code == 503
        assert "We move to a bigger database." in refused.text
        assert (await customer.get("/members")).status_code == 200, "reading goes on"
        assert (await staff.submit(SWITCH, page="/staff")).status_code == 303
        assert (await customer.submit("/organizations/new", name="Now")).status_code == 303


async def test_turning_on_needs_a_reason(staff: Client, superuser: asyncpg.Connection[Any]) -> None:
    answer = await act(staff, SWITCH, on="on", reason=" ")
    assert answer.status_code == 422
    assert "Say why" in answer.text
    assert answer.text.count('aria-invalid="true"') == 1, "the other switches have nothing wrong"
    assert await superuser.fetchval("SELECT count(*) FROM switches WHERE is_on") == 0


async def test_staff_prove_again_who_they_are(staff: Client, superuser: asyncpg.Connection[Any]) -> None:
    clock.advance(timedelta(minutes=11))
    answer = await act(staff, SWITCH, on="on", reason="An old session")
    assert answer.headers["location"].startswith("/confirm")
    assert await superuser.fetchval("SELECT count(*) FROM switches WHERE is_on") == 0


async def test_what_staff_do_is_recorded_and_is_nobodys_organization(
    staff: Client, staff_person: Person, superuser: asyncpg.Connection[Any]
) -> None:
    await act(staff, SWITCH, on="on", reason="For the record")
    row = await superuser.fetchrow(
        "SELECT * FROM audit_log WHERE action = 'admin.turn_switch' AND actor_id = $1", staff_person.id
    )
    assert row is not None
    assert (row["actor_kind"], row["organization_id"], row["reason"]) == ("staff", None, "For the record")
    assert '"switch": "read_only"' in row["facts"]


async def test_a_dead_letter_is_shown_without_its_content_and_runs_again(
    staff: Client, dead_letter: int, superuser: asyncpg.Connection[Any]
) -> None:
    panel = await staff.page("/staff")
    assert "nobody.listens" in panel
    assert "MailFailed" in panel
    again = await staff.submit(f"/staff/dead-letters/{dead_letter}/replay", page="/staff")
    assert again.status_code == 303
    row = await superuser.fetchrow("SELECT status::text, attempts FROM pgqueuer WHERE id = $1", dead_letter)
    assert row is not None
    assert (row["status"], row["attempts"]) == ("queued", 0)
    await act(staff, f"/staff/dead-letters/{dead_letter}/replay")
    assert "None of these is a dead letter any more" in await staff.page("/staff")
    await superuser.execute("DELETE FROM pgqueuer WHERE id = $1", dead_letter)


async def test_all_dead_letters_run_again_at_once(
    staff: Client, dead_letter: int, superuser: asyncpg.Connection[Any]
) -> None:
    assert (await staff.submit("/staff/dead-letters/replay", page="/staff")).status_code == 303
    assert await superuser.fetchval("SELECT status::text FROM pgqueuer WHERE id = $1", dead_letter) == "queued"
    await superuser.execute("DELETE FROM pgqueuer WHERE id = $1", dead_letter)


async def test_the_last_check_of_each_invariant_is_shown(staff: Client, superuser: asyncpg.Connection[Any]) -> None:
    await superuser.execute(
        "INSERT INTO invariant_results (name, violations, checked_at)"
        " VALUES ('organizations_have_an_owner', 3, now()), ('jobs_move', 0, now())"
        " ON CONFLICT (name) DO UPDATE SET violations = excluded.violations"
    )
    panel = await staff.page("/staff")
    assert "Every organization that is not deleted has an owner" in panel
    assert "3 broken" in panel
    assert "Holds" in panel


@pytest.mark.parametrize("path", ["/staff/switches/everything", "/staff/dead-letters/x/replay"])
async def test_what_is_not_there_is_not_found(staff: Client, path: str) -> None:
    assert (await act(staff, path, on="on", reason="x")).status_code == 404


async def test_a_number_beyond_the_columns_range_is_no_server_error(staff: Client) -> None:
    answer = await act(staff, f"/staff/dead-letters/{2**70}/replay")
    assert answer.status_code in (303, 404, 422)
