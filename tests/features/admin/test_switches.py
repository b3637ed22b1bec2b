"""Switches: only for staff with a fresh proof, with a reason both ways, and the log remembers who turned them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from service.core import clock
from service.core.settings import Settings
from service.guardrails.permissions import Role
from service.guardrails.switches import Switch
from tests.support.client import Client
from tests.support.factories import Factory, Person

PAGE = "/staff/switches"
SWITCH = f"{PAGE}/read_only"


async def act(client: Client, path: str, **fields: str) -> httpx.Response:
    return await client.post(path, csrf=client.csrf, **fields)


@pytest.fixture(autouse=True)
async def switches_off(superuser: asyncpg.Connection[Any], staff: Client) -> AsyncIterator[None]:
    """Whatever happens here, the other tests find a service that takes changes."""
    yield
    clock.reset()
    await superuser.execute("DELETE FROM switches")
    # Each process believes what it read for up to two seconds.
    for _ in range(600):
        if (await staff.submit("/organizations/new", name="Probe")).status_code == 303:
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError("changes are still paused: the tests after this one would fail")


@pytest.mark.parametrize("role", list(Role))
async def test_nobody_else_gets_in(factory: Factory, role: Role) -> None:
    async with await factory.client(await factory.person(role)) as client:
        for path in ("/staff", PAGE):
            assert (await client.get(path)).status_code in (403, 404)
        assert (await act(client, SWITCH, on="on", reason="mine")).status_code in (403, 404)
        assert "/staff" not in await client.page("/members"), "what one may not open is not in the menu"


async def test_read_only_stops_changes_shows_why_and_ends_again(
    staff: Client, staff_person: Person, factory: Factory, superuser: asyncpg.Connection[Any]
) -> None:
    page = await staff.page(PAGE)
    assert all(f"{PAGE}/{switch}" in page for switch in Switch), "every switch is on the page, with what it does"
    assert f'href="{PAGE}"' in await staff.page("/staff")
    async with await factory.client(await factory.person(Role.OWNER)) as customer:
        turned = await staff.submit(SWITCH, page=PAGE, on="on", reason="We move to a bigger database.")
        assert turned.status_code == 303
        assert "We move to a bigger database." in await staff.page(PAGE)
        assert "We move to a bigger database." in await staff.page("/staff"), "the home says what is on"
        refused = await customer.submit("/organizations/new", name="Not now")
        assert refused.status_code == 503
        assert "We move to a bigger database." in refused.text
        assert (await customer.get("/members")).status_code == 200, "reading goes on"
        silent = await staff.submit(SWITCH, page=PAGE)
        assert silent.status_code == 422, "turning off wants a reason, too"
        assert silent.text.count('aria-invalid="true"') == 1, "the other switches have nothing wrong"
        assert (await staff.submit(SWITCH, page=PAGE, reason="The new one serves.")).status_code == 303
        assert (await customer.submit("/organizations/new", name="Now")).status_code == 303
    history = (await staff.page(PAGE)).split("History")[1]
    name = await superuser.fetchval("SELECT name FROM users WHERE id = $1", staff_person.id)
    assert history.index("The new one serves.") < history.index("We move to a bigger database."), "newest first"
    assert history.count(name) >= 2
    rows = await superuser.fetch(
        "SELECT * FROM audit_log WHERE action = 'admin.turn_switch' AND actor_id = $1 ORDER BY id", staff_person.id
    )
    assert [(row["actor_kind"], row["organization_id"]) for row in rows] == [("staff", None)] * 2


async def test_turning_on_needs_a_reason_and_a_fresh_proof(staff: Client, superuser: asyncpg.Connection[Any]) -> None:
    answer = await act(staff, SWITCH, on="on", reason=" ")
    assert answer.status_code == 422
    clock.advance(timedelta(minutes=11))
    answer = await act(staff, SWITCH, on="on", reason="An old session")
    assert answer.headers["location"].startswith("/confirm")
    assert await superuser.fetchval("SELECT count(*) FROM switches WHERE is_on") == 0
    clock.reset()
    assert (await act(staff, f"{PAGE}/everything", on="on", reason="No such one")).status_code == 404


async def test_what_staff_did_for_nobody_is_shown_to_staff_alone(
    factory: Factory, superuser: asyncpg.Connection[Any], staff: Client, settings: Settings
) -> None:
    """The policy, not the page: a customer's session that ran the very query would see no row."""
    await act(staff, f"{PAGE}/stop_mail", on="on", reason="For the record")
    customer = await factory.person(Role.OWNER)
    colleague = await factory.person(staff=True)
    seen = {}
    application = await asyncpg.connect(settings.database_url.get_secret_value())
    for person in (customer, colleague):
        async with application.transaction():
            await application.execute("SELECT set_config('app.user', $1, true)", str(person.id))
            seen[person.id] = await application.fetchval("SELECT count(*) FROM audit_log WHERE organization_id IS NULL")
    await application.close()
    assert seen[customer.id] == 0
    assert seen[colleague.id] >= 1
