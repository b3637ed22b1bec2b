"""What staff meet on the first day: a panel without an organization of their own, and a log that nobody sealed yet."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlsplit

import asyncpg

from service.core import clock
from service.core.ids import new_id
from tests.support.client import Client
from tests.support.factories import Factory

CHECK = """
    INSERT INTO audit_checks (id, checked_at, segments, rows, problems) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (id) DO UPDATE SET segments = $3, rows = $4, problems = $5
"""


async def test_staff_without_an_organization_land_on_the_panel_and_others_on_making_one(factory: Factory) -> None:
    colleague = await factory.person(staff=True)
    for person, place in ((colleague, "/staff"), (await factory.person(), "/organizations/new")):
        async with await factory.client(person, "password", "totp") as browser:
            answer = await browser.get("/dashboard")
            assert (answer.status_code, urlsplit(answer.headers["location"]).path) == (303, place)
            assert (await browser.get(answer.headers["location"])).status_code == 200


async def test_a_look_at_a_log_without_seals_claims_nothing(
    staff: Client, superuser: asyncpg.Connection[object]
) -> None:
    look, newest = new_id(), clock.now() + timedelta(seconds=30)
    try:
        await superuser.execute(CHECK, look, newest, 0, 0, 0)
        page = await staff.page("/staff/system")
        assert "Nothing to verify yet" in page
        assert "0 rows" not in page
        assert "Nothing was tampered with" not in page
        await superuser.execute(CHECK, look, newest, 0, 0, 2)
        page = await staff.page("/staff/system")
        assert "2 problems" in page, "all of it gone is no empty log"
        await superuser.execute(CHECK, look, newest, 3, 40, 0)
        page = await staff.page("/staff/system")
        assert "Nothing was tampered with" in page
        assert "40 rows in 3 segments" in page
    finally:
        await superuser.execute("DELETE FROM audit_checks WHERE id = $1", look)
