"""The staff panel does not exist for anybody else: the answer is, to the byte, that of an address nobody knows."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from service.app import build, close_resources, route_names
from service.core import clock
from service.core.errors import NOTHING_HERE, NotFound
from service.core.observe import Observe
from service.core.settings import Settings
from service.guardrails import sessions, staff_door
from service.guardrails.browser import Shield
from service.guardrails.permissions import Role
from service.web.errors import refusal
from tests.support.client import Client
from tests.support.factories import Factory

STAFF = ("/staff", "/staff/people", "/staff/people/csv", "/staff/people?limit=0", "/staff/billing/customers/x")
VARYING = re.compile(r"[0-9a-f]{32}|nonce-[^']+|nonce=\"[^\"]+\"")


def told(answer: httpx.Response) -> tuple[int, dict[str, str], str]:
    """All that the answer says, without what differs each time: the request's id, the nonce, the date."""
    headers = {name: VARYING.sub("", value) for name, value in answer.headers.items() if name != "date"}
    return answer.status_code, headers, VARYING.sub("", answer.text)


@pytest.fixture
async def strangers(factory: Factory) -> list[Client]:
    return [await factory.client(), *[await factory.client(await factory.person(role)) for role in (None, Role.OWNER)]]


async def test_no_stranger_can_tell_the_panel_from_nothing(strangers: list[Client]) -> None:
    for client in strangers:
        async with client:
            # The first answer sets a cookie for forms; what is compared comes after it.
            await client.get("/nothing-here")
            nothing = told(await client.get("/nothing-here"))
            assert nothing[0] == 404
            for path in STAFF:
                assert told(await client.get(path)) == nothing, path
            nothing = told(await client.http.post("/nothing-here", data={"reason": "x"}))
            for path in ("/staff", "/staff/reasons", "/staff/switches/read_only", "/staff/people"):
                assert told(await client.http.post(path, data={"reason": "x"})) == nothing, f"POST {path}"


async def test_asking_often_tells_strangers_nothing_and_staff_that_they_wait(
    strangers: list[Client], staff: Client
) -> None:
    for client in strangers:
        async with client:
            await client.get("/nothing-here")
            nothing = told(await client.get("/nothing-here"))
            for _ in range(12):
                assert told(await client.get("/staff/people/csv")) == nothing
    answers = [(await staff.get("/staff/people/csv")).status_code for _ in range(12)]
    assert answers[-1] == 429


async def test_an_attempt_of_somebody_we_know_is_noted(factory: Factory, superuser: asyncpg.Connection[Any]) -> None:
    person = await factory.person(Role.OWNER)
    async with await factory.client(person) as client:
        await client.get("/staff/people")
    found = await superuser.fetchval(
        "SELECT outcome FROM audit_log WHERE action = 'staff.enter' AND actor_id = $1", person.id
    )
    assert found == "denied"


async def test_staff_prove_again_who_they_are_and_come_back(factory: Factory) -> None:
    async with await factory.client(await factory.person(staff=True), "password", "totp") as client:
        assert (await client.get("/staff/people?q=ann")).status_code == 200
        clock.advance(timedelta(minutes=11))
        try:
            answer = await client.get("/staff/people?q=ann")
        finally:
            clock.reset()
        assert answer.headers["location"] == "/confirm?next=/staff/people%3Fq%3Dann"


async def test_staff_without_a_second_factor_are_told_what_to_do(factory: Factory) -> None:
    async with await factory.client(await factory.person(staff=True), "password") as client:
        answer = await client.get("/staff/people")
    assert answer.status_code == 403
    assert "code from your app" in answer.text


async def test_a_forged_request_of_staff_is_refused(factory: Factory) -> None:
    async with await factory.client(await factory.person(staff=True), "password", "totp") as client:
        answer = await client.http.post("/staff/reasons", data={"next": "/staff/people", "reason": "x" * 20})
        assert answer.status_code == 403
        elsewhere = {"origin": "https://elsewhere.example"}
        sent = {"next": "/staff/people", "reason": "x" * 20, "csrf": client.csrf}
        assert (await client.http.post("/staff/reasons", data=sent, headers=elsewhere)).status_code == 403


async def test_what_staff_do_there_is_nobodys_organization_and_all_of_it_is_noted(
    factory: Factory, superuser: asyncpg.Connection[Any]
) -> None:
    person = await factory.person(Role.OWNER, staff=True)
    async with await factory.client(person, "password", "totp") as client:
        await client.page("/staff/people")
    row = await superuser.fetchrow("SELECT * FROM audit_log WHERE action = 'staff.enter' AND actor_id = $1", person.id)
    assert row is not None
    assert (row["organization_id"], row["outcome"]) == (None, "done")
    assert '"path": "/staff/people"' in row["facts"]


async def test_it_bites(factory: Factory, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without forgetting who asked, the page of somebody logged in greets them: it is not that of nothing."""
    monkeypatch.setattr(staff_door, "unknown", lambda request: NotFound(NOTHING_HERE))
    token, _ = await factory.log_in(await factory.person(Role.OWNER))
    app = build(settings)
    shielded = Shield(app, settings, lambda scope, error: refusal(app, scope, error))
    served = Observe(shielded, lambda scope: "10.9.8.7", lambda scope: True, route_names(app))
    headers = {"accept": "text/html", "cookie": f"{sessions.cookie_name(settings)}={token}"}
    transport = httpx.ASGITransport(served, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=settings.base_url, headers=headers) as http:
        assert told(await http.get("/staff")) != told(await http.get("/nothing-here"))
    await close_resources(app.state.resources)
