"""Staff turn a flag for one organization: its people see the new detail, nobody else does, and its log says why."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from service.core import clock
from service.core.ids import new_id
from service.guardrails.feature_flags import FLAGS, Flag
from service.guardrails.permissions import Role
from tests.support.client import Client
from tests.support.factories import Factory, Person

PAGE, TURN = "/staff/flags", "/staff/flags/turn"
DETAIL = "Between 1 and 3"


async def customer(factory: Factory) -> Person:
    """With a tile that moved between 1 and 3."""
    person = await factory.person(Role.OWNER)
    assert person.organization_id is not None
    indicator = await factory.indicator(person.organization_id)
    await factory.superuser.execute(
        "INSERT INTO reading_hours (organization_id, indicator_id, hour, count, total, low, high)"
        " SELECT $1, $2, date_trunc('hour', now()) - n * interval '1 hour', 1, n, n, n FROM generate_series(1, 3) n",
        person.organization_id, indicator,
    )  # fmt: skip
    return person


async def until_shown(client: Client, shown: bool) -> None:
    """Each process believes what it read for five seconds."""
    for _ in range(600):
        if (DETAIL in await client.page("/dashboard")) is shown:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"the detail is {'not ' if shown else ''}shown")


async def test_a_flag_changes_the_dashboard_of_one_organization(
    staff: Client, factory: Factory, superuser: asyncpg.Connection[Any]
) -> None:
    mine, other = await customer(factory), await customer(factory)
    async with await factory.client(mine) as here, await factory.client(other) as there:
        before = await here.get("/dashboard")
        assert DETAIL not in before.text
        asks = {"if-none-match": before.headers["etag"], "hx-request": "true"}
        assert (await here.get("/dashboard", headers=asks)).status_code == 304
        page = await staff.page(f"{TURN}?organization={mine.organization_id}")
        assert f'value="{mine.organization_id}"' in page
        assert FLAGS[Flag.TILE_RANGE].description in await staff.page(f"{PAGE}/declared")
        asked = {"organization": str(mine.organization_id), "flag": Flag.TILE_RANGE.value}
        turned = await staff.submit(TURN, **asked, to="on", reason="They asked to try it")
        assert turned.status_code == 303, turned.text
        await until_shown(here, True)
        polled = await here.get("/dashboard", headers=asks)
        assert polled.status_code == 200, "an open page hears of it with its next poll"
        assert DETAIL not in await there.page("/dashboard")
        listed = await staff.page(f"{PAGE}?organization_id={mine.organization_id}")
        assert listed.count("<tr") == 2, "the head and this one"
        assert Flag.TILE_RANGE.value in (await staff.get(f"{PAGE}/csv?organization_id={mine.organization_id}")).text
        log = await here.page("/audit-log")
        assert "They asked to try it" in log
        assert (await staff.submit(TURN, **asked, to="default", reason="They did not like it")).status_code == 303
        await until_shown(here, False)
    assert not await superuser.fetchval(
        "SELECT count(*) FROM organization_flags WHERE organization_id = $1", mine.organization_id
    )


async def test_a_turn_wants_a_reason_an_organization_and_a_fresh_proof(staff: Client, factory: Factory) -> None:
    asked = {"flag": Flag.TILE_RANGE.value, "to": "on"}
    nobody = await staff.submit(TURN, **asked, organization=str(new_id()), reason="Nobody at all")
    assert nobody.status_code == 422
    assert "There is no such organization" in nobody.text
    there = str(await factory.organization())
    assert (await staff.submit(TURN, **asked, organization=there, reason="")).status_code == 422
    unknown = await staff.submit(TURN, flag="no_such_flag", to="on", organization=there, reason="A new one of theirs")
    assert unknown.status_code == 422
    clock.advance(timedelta(minutes=11))
    late = await staff.post(TURN, csrf=staff.csrf, **asked, organization=there, reason="An old session")
    assert late.headers["location"].startswith("/confirm")


@pytest.mark.parametrize("role", [Role.OWNER])
async def test_nobody_else_turns_a_flag(factory: Factory, role: Role) -> None:
    person = await factory.person(role)
    async with await factory.client(person) as client:
        assert (await client.get(PAGE)).status_code in (403, 404)
        asked = {"flag": Flag.TILE_RANGE.value, "to": "on", "organization": str(person.organization_id)}
        assert (await client.post(TURN, csrf=client.csrf, **asked, reason="For us")).status_code in (403, 404)
