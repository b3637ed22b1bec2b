"""Staff help a customer and leave a trail; what they may not see they do not see; a deleted account comes back."""

from __future__ import annotations

import csv
import io
import re
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from infra.sandbox.mail import MailSink
from service.core import clock
from service.core.ids import new_id
from service.guardrails.permissions import Role
from service.guardrails.subjects import address_hash
from tests.features.accounts.conftest import PASSWORD, Post
from tests.features.admin.conftest import WHY, say_why
from tests.support.client import Client
from tests.support.factories import Factory, Person
from tests.support.servers import RunningWorker

PEOPLE = "/staff/people"


async def act(staff: Client, person: UUID, name: str, **fields: str) -> int:
    answer = await staff.submit(f"{PEOPLE}/{person}/{name}", **{"reason": WHY, **fields})
    return answer.status_code


async def test_staff_help_a_customer_and_leave_a_trail(
    factory: Factory, staff: Client, staff_person: Person, superuser: asyncpg.Connection[Any],
    mailbox: MailSink, worker: RunningWorker,
) -> None:  # fmt: skip
    customer = await factory.person(Role.OWNER, password=PASSWORD)
    assert customer.organization_id is not None
    one = f"{PEOPLE}/{customer.id}"
    async with await factory.client(customer) as theirs:
        assert (await theirs.get("/dashboard")).status_code == 200
        # By the beginning of an address nobody is found before a reason is given; by an id everybody is.
        barred = await staff.page(f"{PEOPLE}?q={customer.email[:10].upper()}")
        assert str(customer.id) not in barred, "whose address begins like this is personal, too"
        found, shown = await staff.page(f"{PEOPLE}?q={customer.id}"), await staff.page(one)
        for page in (barred, found, shown):
            assert customer.email not in page
            assert "Say why" in page
        assert f"{PEOPLE}/{customer.id}" in found
        assert str(customer.organization_id) in shown
        way = shown.partition('aria-label="Breadcrumb"')[2].partition("</nav>")[0]
        assert re.findall('href="(.*?)"', way) == ["/staff", PEOPLE], "back to the list, and to all there is"
        assert "127.0.0.0" not in shown
        # A word is no reason.
        page = f"/staff/reasons?next={one}"
        short = await staff.submit("/staff/reasons", page=page, next=one, reason="help")
        assert short.status_code == 422
        assert customer.email not in await staff.page(one)
        await say_why(staff, one)
        assert customer.email in await staff.page(one)
        assert customer.email not in await staff.page(f"{PEOPLE}?q={customer.id}"), "a reason is for one subject"

        ended = await act(staff, customer.id, "end-sessions")
        assert ended == 303
        assert (await theirs.get("/dashboard")).headers["location"].startswith("/login")
    assert await act(staff, customer.id, "reset-link") == 303
    post = Post(mailbox)
    assert "/reset/" in await post.link(customer.email, "reset")

    rows = await superuser.fetch(
        "SELECT action, reason, organization_id, object_id, facts ->> 'about' AS about FROM audit_log"
        " WHERE actor_id = $1 AND outcome = 'done' AND action <> 'staff.enter' ORDER BY id", staff_person.id,
    )  # fmt: skip
    trail = [row["action"] for row in rows]
    assert trail == [
        "admin.give_reason", "staff.read_personal", "accounts.end_sessions_of", "accounts.send_reset_link",
    ]  # fmt: skip
    assert {row["reason"] for row in rows} == {WHY}
    assert [row["about"] for row in rows[:2]] == [one, one], "the log says what the reason was for"
    assert {row["organization_id"] for row in rows} == {None}, "what staff do is in nobody's organization's log"
    assert [row["object_id"] for row in rows[1:]] == [customer.id] * 3
    # The account page tells the next colleague what was done, but not why, before they have said why themselves.
    async with await factory.client(await factory.person(staff=True), "password", "totp") as colleague:
        later = await colleague.page(one)
    assert "accounts.end_sessions_of" in later
    assert WHY not in later


async def test_a_deleted_account_comes_back(
    factory: Factory, staff: Client, mailbox: MailSink, worker: RunningWorker, superuser: asyncpg.Connection[Any]
) -> None:
    customer = await factory.person(password=PASSWORD)
    await superuser.execute(
        "UPDATE users SET deleted_at = $2, deletion_id = $3 WHERE id = $1", customer.id, clock.now(), new_id()
    )
    async with await factory.client() as theirs:
        assert (await theirs.submit("/login", email=customer.email, password=PASSWORD)).status_code == 422
        assert "deleted" in await staff.page(f"{PEOPLE}?q={customer.id}")
        page = await staff.page(f"{PEOPLE}/{customer.id}")
        assert "Recover the deleted account" in page
        assert "Lock the account" not in page, "what is deleted can only come back"
        assert await act(staff, customer.id, "recover") == 303
        assert "Recover the deleted account" not in await staff.page(f"{PEOPLE}/{customer.id}")
        assert (await theirs.submit("/login", email=customer.email, password=PASSWORD)).status_code == 303
    [mail] = await Post(mailbox).to(customer.email)
    assert "brought your deleted account back" in mail.text


async def test_a_lock_a_second_factor_and_a_hold(
    factory: Factory, staff: Client, staff_person: Person, superuser: asyncpg.Connection[Any]
) -> None:
    customer = await factory.person(password=PASSWORD, verified=False)
    one = f"{PEOPLE}/{customer.id}"
    assert await act(staff, customer.id, "confirm-address") == 303
    assert await act(staff, customer.id, "lock") == 303
    async with await factory.client() as theirs:
        refused = await theirs.submit("/login", email=customer.email, password=PASSWORD)
        assert refused.status_code == 422
        assert "This account is locked." in refused.text
        assert await act(staff, customer.id, "lock") == 422, "it is locked already"
        assert await act(staff, customer.id, "unlock") == 303
        assert (await theirs.submit("/login", email=customer.email, password=PASSWORD)).status_code == 303
    assert await act(staff, staff_person.id, "lock") == 422, "not one's own"

    factor = "UPDATE users SET totp_secret = 'x', totp_confirmed_at = now() WHERE id = $1"
    for person in (customer, staff_person):
        await superuser.execute(factor, person.id)
    assert await act(staff, staff_person.id, "reset-second-factor") == 422, "never a colleague's"
    assert await act(staff, customer.id, "reset-second-factor") == 303
    assert await superuser.fetchval("SELECT totp_secret FROM users WHERE id = $1", customer.id) is None
    assert await superuser.fetchval("SELECT totp_secret FROM users WHERE id = $1", staff_person.id) == b"x"

    assert await act(staff, customer.id, "hold") == 303
    assert "Lift the legal hold" in await staff.page(one)
    assert await superuser.fetchval("SELECT reason FROM legal_holds WHERE subject_id = $1", customer.id) == WHY
    with pytest.raises(asyncpg.UniqueViolationError):
        await superuser.execute(
            "INSERT INTO legal_holds (id, subject_id, placed_at) VALUES (gen_random_uuid(), $1, now())", customer.id
        )
    assert await act(staff, customer.id, "lift-hold") == 303
    assert "Lift the legal hold" not in await staff.page(one)
    assert await act(staff, customer.id, "hold") == 303, "what was held once can be held again"
    nobody = new_id()
    for of in (PEOPLE, "/staff/organizations"):
        refused = await staff.submit(f"{of}/{nobody}/hold", reason=WHY)
        assert "no such account" in refused.text
    assert not await superuser.fetchval("SELECT count(*) FROM legal_holds WHERE subject_id = $1", nobody)
    assert (await staff.get(f"{PEOPLE}/{nobody}")).status_code == 404
    assert (await staff.get(f"{PEOPLE}/nobody")).status_code == 404


async def test_one_session_of_several_is_ended(factory: Factory, staff: Client) -> None:
    customer = await factory.person(Role.OWNER)
    async with await factory.client(customer) as phone, await factory.client(customer) as laptop:
        page = await staff.page(f"{PEOPLE}/{customer.id}")
        [key, _] = [part.partition('"')[0] for part in page.split("end-session?session=")[1:]]
        where = f"{PEOPLE}/{customer.id}/end-session"
        answer = await staff.submit(where, page=f"{where}?session={key}", session=key, reason=WHY)
        assert answer.status_code == 303
        left = [(await device.get("/dashboard")).status_code for device in (phone, laptop)]
        assert sorted(left) == [200, 303]
        again = await staff.submit(where, page=f"{where}?session={key}", session=key, reason=WHY)
        assert "There is no such session." in again.text


async def test_what_the_filters_show_is_exported_for_a_reason(
    factory: Factory, staff: Client, superuser: asyncpg.Connection[Any], staff_person: Person
) -> None:
    stem = f"exported{new_id().hex[-8:]}"
    people = [await factory.person() for _ in range(3)]
    for number, person in enumerate(people):
        await superuser.execute(
            "UPDATE users SET email = $2, name = $3 WHERE id = $1", person.id, f"{stem}{number}@example.com", "=1+1"
        )
    asked = f"{PEOPLE}/csv?q={stem}"
    assert (await staff.get(asked)).headers["location"].startswith("/staff/reasons?next=")
    await say_why(staff, PEOPLE)
    assert str(people[0].id) in await staff.page(f"{PEOPLE}?q={stem.upper()}0"), "in any spelling"
    answer = await staff.get(asked)
    assert answer.headers["content-disposition"] == 'attachment; filename="people.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["E-mail"] for row in rows] == [f"{stem}{number}@example.com" for number in range(3)]
    assert {row["Name"] for row in rows} == {"'=1+1"}, "no spreadsheet runs it"
    noted = await superuser.fetch(
        "SELECT action, facts::text FROM audit_log WHERE action LIKE 'staff.export%' AND actor_id = $1 ORDER BY id",
        staff_person.id,
    )
    assert [row["action"] for row in noted] == ["staff.export", "staff.export_rows"]
    assert '"rows": 3' in noted[1]["facts"]
    assert f'"filters": {{"q": "{address_hash(stem).hex()[:32]}"}}' in noted[0]["facts"]
    assert stem not in noted[0]["facts"], "which list was taken away, without the name that was sought"
    # The pages of a list meet without a gap, and the search goes on with them.
    first = await staff.page(f"{PEOPLE}?q={stem}&limit=2")
    older = first.split('rel="next"')[0].rpartition('href="')[2].split('"')[0].replace("&amp;", "&")
    second = await staff.page(f"{older}&limit=2")
    shown = [[str(person.id) in page for person in people] for page in (first, second)]
    assert shown == [[True, True, False], [False, False, True]]


async def test_an_organization_shows_its_plan_its_use_and_its_people(factory: Factory, staff: Client) -> None:
    name = f"Zebra {new_id().hex[-8:]}"
    organization = await factory.organization(name)
    member = await factory.person(Role.MEMBER, organization)
    await factory.plan(organization)
    await factory.indicator(organization)
    found = await staff.page(f"/staff/organizations?q={name[:9].lower()}")
    assert name in found
    assert str(organization) in await staff.page(f"/staff/organizations?q={organization}")
    page = await staff.page(f"/staff/organizations/{organization}")
    assert str(member.id) in page
    assert member.email not in page
    assert "business" in page
    assert "Lift the legal hold" not in page
    assert (await staff.submit(f"/staff/organizations/{organization}/hold", reason=WHY)).status_code == 303
    assert "Lift the legal hold" in await staff.page(f"/staff/organizations/{organization}")


async def test_what_happened_is_found_by_whom_and_to_whom(factory: Factory, staff: Client) -> None:
    customer = await factory.person(Role.OWNER, password=PASSWORD)
    async with await factory.client() as theirs:
        await theirs.submit("/login", email=customer.email, password="not the password at all")
    page = await staff.page(f"/staff/events?object_id={customer.id}")
    assert "accounts.log_in" in page
    assert "failed" in page
    assert "hidden" in page, "the network is personal"
    assert "Nothing" in await staff.page(f"/staff/events?actor_id={new_id()}")
    wrong = await staff.get("/staff/events?actor_id=x")
    assert wrong.status_code == 422
    assert "Nothing was looked up" in wrong.text
