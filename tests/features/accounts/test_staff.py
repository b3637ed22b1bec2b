"""Staff are made on the command line, of accounts with a second factor; in the browser that factor stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from service.core import clock
from tests.features.accounts.conftest import PASSWORD, LogIn, can_enter, user_row
from tests.features.accounts.test_second_factor import password_only, turn_on
from tests.support.client import Client
from tests.support.factories import Factory, Person
from tests.support.processes import command


async def test_a_password_alone_opens_no_staff_panel(factory: Factory, logged_in: LogIn, superuser: Any) -> None:
    """Its thief set up codes of their own, and the panel took them for the colleague."""
    staff = await factory.person(password=PASSWORD, staff=True)
    thief = await logged_in(staff)
    assert (await thief.get("/staff")).status_code == 403
    page = await thief.page("/account/security")
    token = page.partition('name="csrf" value="')[2].partition('"')[0]
    assert (await thief.post("/account/totp", csrf=token)).headers["location"] == "/account/security"
    assert "Staff cannot turn codes on or off." in await thief.page("/account/security")
    assert (await user_row(superuser, staff.email))["totp_secret"] is None
    await superuser.execute("UPDATE users SET totp_secret = 'waiting' WHERE id = $1", staff.id)
    answer = await thief.post("/account/totp/confirmation", csrf=token, code="123456")
    assert answer.headers["location"] == "/account/security"


async def test_staff_come_and_go_by_the_command_line(
    browser: Callable[[], Client], person: Person, logged_in: LogIn, superuser: Any
) -> None:
    before = await logged_in(person)
    phone, _ = await turn_on(before)
    assert await command("staff", "add", person.email.upper()) == (0, f"{person.email.upper()} is staff\n")
    assert not await can_enter(before)
    client = browser()
    await password_only(client, person)
    await client.submit("/login/code", code=phone.next_code())
    assert (await client.get("/staff")).status_code == 200

    token = (await client.page("/account/security")).partition('name="csrf" value="')[2].partition('"')[0]
    await client.post("/account/totp/removal", csrf=token)
    assert "Staff cannot turn codes on or off." in await client.page("/account/security")
    assert (await user_row(superuser, person.email))["totp_confirmed_at"] is not None

    assert (await command("staff", "remove", person.email))[0] == 0
    assert not await can_enter(client)
    assert not (await user_row(superuser, person.email))["is_staff"]
    rows = await superuser.fetch(
        "SELECT action, actor_kind FROM audit_log WHERE action LIKE 'accounts.%_staff' AND object_id = $1 ORDER BY id",
        str(person.id),
    )
    assert [tuple(row) for row in rows] == [("accounts.add_staff", "system"), ("accounts.remove_staff", "system")]


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ("unknown", "There is no account with this address. Let them sign up first."),
        ("unverified", "The address is not confirmed."),
        ("deleted", "This account is deleted."),
        ("without codes", "This account has no second factor."),
    ],
)
async def test_what_cannot_be_staff_is_told_why(factory: Factory, superuser: Any, state: str, why: str) -> None:
    person = await factory.person(verified=state != "unverified")
    if state == "deleted":
        await superuser.execute("UPDATE users SET deleted_at = $2 WHERE id = $1", person.id, clock.now())
    code, printed = await command("staff", "add", f"no{person.email}" if state == "unknown" else person.email)
    assert code == 1
    assert why in printed
    assert "Traceback" not in printed
    assert not (await user_row(superuser, person.email))["is_staff"]
