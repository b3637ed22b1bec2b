"""Staff see why somebody is kept waiting and let them try again: by address, account, organization and API key."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from service.core import clock
from service.core.scripts import now_ms
from service.guardrails import api_keys, limit_lookup
from service.guardrails.addresses import region_of
from service.guardrails.api_keys import SHOWN
from service.guardrails.permissions import Role
from tests.features.admin.conftest import say_why
from tests.support.client import Client
from tests.support.factories import Factory, Person

PAGE = "/staff/rate-limits"
WRONG = "this is not it, and never was"


def rows(page: str) -> list[str]:
    """The table's rows, as text with their tags."""
    return [row.split("</tr>")[0] for row in page.split("<tr>")[2:]]


async def guess(client: Client, email: str, times: int) -> int:
    """Wrong passwords; how many were refused for being too many."""
    answers = [await client.submit("/login", email=email, password=WRONG) for _ in range(times)]
    return sum(answer.status_code == 429 for answer in answers)


async def test_an_account_that_somebody_guesses_at_is_seen_and_let_in_again(
    staff: Client, staff_person: Person, factory: Factory, superuser: asyncpg.Connection[Any]
) -> None:
    person = await factory.person(Role.OWNER, password="the right one, for once")
    async with await factory.client() as guesser:
        assert await guess(guesser, person.email, 7) >= 1, "five in a quarter of an hour from one address"
        by_account = f"{PAGE}?kind=account&q={person.email.upper()}"
        unsaid = await staff.get(by_account)
        assert unsaid.status_code == 422
        assert "takes a reason" in unsaid.text
        assert str(person.id) not in unsaid.text, "whose address it is, is personal"
        barred = await staff.post(by_account, csrf=staff.csrf, policy="login", reason="Their owner called us")
        assert (barred.status_code, "takes a reason" in barred.text) == (422, True)
        for unsaid_too in (f"{PAGE}?kind=account&q={person.id}", f"{PAGE}?kind=address&q={guesser.address}"):
            assert not rows((await staff.get(unsaid_too)).text), "what one person does, and whence, is personal"
        await say_why(staff, PAGE)
        page = await staff.page(by_account)
        network = region_of(guesser.address)
        assert guesser.address not in page, "not even staff see a whole address"
        [pair] = [row for row in rows(page) if f"from {network}" in row]
        assert "5 of 5" in pair
        assert "Waits" in pair
        [whole] = [row for row in rows(page) if "from everywhere" in row]
        assert "5 of 50" in whole
        assert f"account {person.id}" in page.lower()
        by_id = await staff.page(f"{PAGE}?kind=account&q={person.id}")
        assert f"from {network}" in by_id
        by_address = await staff.page(f"{PAGE}?kind=address&q={guesser.address}")
        assert any("every request" in row and "login" in row for row in rows(by_address))
        assert (await staff.submit(by_account, page=by_account, policy="login", reason="")).status_code == 422
        reset = await staff.submit(by_account, page=by_account, policy="login", reason="Their owner called us")
        assert reset.status_code == 303, reset.text
        assert not any(network in row for row in rows(await staff.page(by_account)))
        entered = await guesser.submit("/login", email=person.email, password="the right one, for once")
        assert entered.status_code == 303, "the address's own count is not full: twenty in five minutes"
    log = await superuser.fetchrow(
        "SELECT * FROM audit_log WHERE action = 'admin.reset_limits' AND actor_id = $1 AND outcome = 'done'",
        staff_person.id,
    )
    assert log is not None
    assert (log["reason"], log["organization_id"]) == ("Their owner called us", None)
    assert str(person.id) in log["facts"]
    assert person.email not in str(dict(log)), "the log names no person"
    looks = await superuser.fetch(
        "SELECT facts FROM audit_log WHERE action = 'staff.read_personal' AND actor_id = $1", staff_person.id
    )
    assert any(str(person.id) in look["facts"] for look in looks), "whose data were looked at"
    again = await staff.post(by_account, csrf=staff.csrf, policy="no-such-limit", reason="Once more, please")
    assert again.status_code == 422
    assert "Nothing is counted there any more" in again.text


async def test_a_known_browser_is_counted_apart_and_seen_so(staff: Client, factory: Factory) -> None:
    person = await factory.person(Role.OWNER, password="the right one, for once")
    async with await factory.client() as home:
        assert (await home.submit("/login", email=person.email, password="the right one, for once")).status_code == 303
        for name in list(home.http.cookies.keys()):
            if "device" not in name:
                home.http.cookies.delete(name)
        await guess(home, person.email, 2)
    await say_why(staff, PAGE)
    found = rows(await staff.page(f"{PAGE}?kind=account&q={person.id}"))
    [known] = [row for row in found if "known browser" in row]
    assert "2 of 5" in known
    assert not any("from everywhere" in row for row in found), "a known browser is no stranger"


async def test_an_organization_and_its_keys(staff: Client, factory: Factory) -> None:
    person = await factory.person(Role.OWNER)
    organization = person.organization_id
    assert organization is not None
    await factory.plan(organization, limits={"api_per_minute": 77})
    async with await factory.client(person) as client:
        assert (await client.api("GET", "/indicators")).status_code == 200
        [plan] = [
            row for row in rows(await staff.page(f"{PAGE}?kind=organization&q={organization}")) if "all keys" in row
        ]
        assert " of 77 in 1 min" in plan
        # Filled for nearly a minute, so that no slow machine sees it run empty; that the door refuses proves its name.
        known = limit_lookup.of_key(factory.resources, api_keys.hash_of(client.key))
        [full] = [one.bucket.name for one in known if one.policy == "api"]
        await factory.resources.redis.set(full, now_ms() + 110_000, px=110_000)
        assert (await client.api("GET", "/indicators")).status_code == 429
        of_key = f"{PAGE}?kind=key&q={client.key[:SHOWN]}"
        [calls] = [row for row in rows(await staff.page(of_key)) if "this key" in row]
        assert "600 of 600 in 1 min" in calls
        assert "Waits" in calls
        assert (await staff.submit(of_key, page=of_key, policy="api", reason="A loop of theirs ran")).status_code == 303
        assert (await client.api("GET", "/indicators")).status_code == 200
    idle = await factory.organization()
    [plan] = rows(await staff.page(f"{PAGE}?kind=organization&q={idle}"))
    assert ">0 of " in plan, "the plan's rate is told even when nobody calls"


@pytest.mark.parametrize(
    ("kind", "sought", "sentence"),
    [
        ("address", "300.1.2.3", "This is no IP address"),
        ("account", "nobody", "No account has this id"),
        ("organization", "0199feed-0000-7000-8000-000000000000", "No organization has this id"),
        ("organization", "ours", "No organization has this id"),
        ("key", "blst_nothing", "No API key begins like this"),
    ],
)
async def test_what_cannot_be_found_is_said_so(staff: Client, kind: str, sought: str, sentence: str) -> None:
    answer = await staff.get(f"{PAGE}?kind={kind}&q={sought}")
    assert answer.status_code == 422
    assert sentence in answer.text
    refused = await staff.post(f"{PAGE}?kind={kind}&q={sought}", csrf=staff.csrf, policy="", reason="For nobody")
    assert refused.status_code == 422


async def test_a_reset_of_nobody_says_what_is_missing(staff: Client) -> None:
    answer = await staff.post(PAGE, csrf=staff.csrf, policy="", reason="Their owner called us")
    assert answer.status_code == 422
    assert "Look up first whose limits are meant." in answer.text


async def test_nobody_else_resets_and_staff_prove_again_who_they_are(staff: Client, factory: Factory) -> None:
    person = await factory.person(Role.OWNER)
    here = f"{PAGE}?kind=account&q={person.email}"
    async with await factory.client(person) as client:
        assert (await client.get(here)).status_code == 404
        assert (await client.post(here, csrf=client.csrf, policy="", reason="For me")).status_code == 404
    clock.advance(timedelta(minutes=11))
    late = await staff.post(here, csrf=staff.csrf, policy="", reason="An old session")
    assert late.headers["location"].startswith("/confirm")
