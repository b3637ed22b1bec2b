"""A person whose every trace bears a token: after erasure and retention it is nowhere, and the audit log still fits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from service.core import clock
from service.core.context import Resources
from service.core.database import Base
from service.core.ids import new_id
from service.core.settings import Settings
from service.features.erasure.flows import arrivals
from service.features.erasure.flows.steps import STEPS
from service.guardrails.audit import seal, verify
from service.guardrails.data_map import Kind, of_kind
from service.guardrails.permissions import Role
from service.guardrails.personal_data import Protection, internal, protection_of
from service.guardrails.purge import purge_expired
from service.guardrails.residency import at_home
from service.guardrails.subjects import Person as Subject
from service.guardrails.subjects import address_hash, personal_tables
from service.integrations.mail import Mailers
from service.integrations.mail.port import Mail
from service.integrations.storage import NotStored, Storage
from tests.features.erasure import canary
from tests.features.erasure.world import World
from tests.support.doubts import internal_columns, people_in_internal
from tests.support.factories import PASSWORD, Person

pytest_plugins = ("tests.guardrails.durability", "tests.features.erasure.planet")
LATER = 120


async def leave_traces(world: World, token: str) -> Person:
    """Somebody who has done everything, whose name and addresses are the token: some know only their former one."""
    home, shared = await world.factory.person(Role.OWNER), await world.factory.person(Role.OWNER)
    person = Person(home.id, f"{token}@example.com", home.organization_id, Role.OWNER)
    assert home.organization_id is not None
    await world.superuser.execute("UPDATE users SET email = $2 WHERE id = $1", person.id, person.email)
    await world.superuser.execute(
        "INSERT INTO memberships (id, organization_id, user_id, role, created_at) VALUES ($1, $2, $3, 'admin', now())",
        new_id(), shared.organization_id, person.id,
    )  # fmt: skip
    former = f"former-{token}@example.com"
    await world.customer(person.organization_id, f"invoices-{token}@example.com")
    await world.customer(shared.organization_id, former)
    async with await world.factory.client(person) as client:
        await client.submit("/account/name", page="/account", name=f"Ada {token}")
        assert (await client.api("GET", "/indicators")).status_code == 200
    async with await world.factory.client() as visitor:
        await visitor.submit("/login", page="/login", email=person.email, password="not it, not it")
        await visitor.submit("/forgot", page="/forgot", email=person.email)
    subject = Subject(person.id, (person.email, former))
    planted = await canary.plant(world.superuser, subject, token, home.organization_id)
    assert len(planted) + len(canary.BY_HAND) == len(personal_tables(Base.metadata)), "a table without a trace"
    await canary.plant_in_redis(world.resources, token)
    copy = at_home(world.resources, f"exports/{new_id()}/{new_id().hex}")
    await world.superuser.execute(
        "UPDATE data_exports SET key = $2, state = 'failed' WHERE user_id = $1", person.id, copy
    )
    await world.resources.get(Storage).put(copy, one_part(token.encode()))
    await canary.compare_with_the_map(world.resources, *canary.marks(subject, token, home.organization_id))
    mailer = world.resources.get(Mailers).all()[0]
    await mailer.send(Mail(person.email, f"Dear {token}", token, f"<p>{token}</p>", f"test.{new_id()}"))
    world.sendgrid.spared |= dict.fromkeys((person.email, former), "bounce")
    await world.superuser.execute(
        "INSERT INTO mail_suppressions (id, address_hash, email, cause, code, seen_at)"
        " VALUES ($1, $2, $3, 'bounce', '', $4)",
        new_id(), address_hash(former), former, clock.now() - timedelta(days=1),
    )  # fmt: skip
    return person


async def one_part(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def places(world: World, token: str, *, later: timedelta = timedelta()) -> dict[str, set[str]]:
    """Everywhere that the token stands; `later`: so long ago it was put there."""
    sent = [str(one) for one in (*world.sendgrid.sent, *world.sendgrid.requests, *world.sendgrid.spared)]
    living = world.stripe.account.store.kinds["customer"]
    found = {
        "tables": await canary.in_tables(world.superuser, token),
        "redis": await canary.in_redis(world.resources.redis, token, within=later),
        "store": await canary.in_store(world.resources, token),
        "sendgrid": {one for one in sent if token in one},
        "stripe": {name for name, customer in living.items() if token in str(customer)},
    }
    return {place: where for place, where in found.items() if where}


@pytest.mark.slow
async def test_no_trace_is_left_of_a_person_but_what_the_map_keeps(
    world: World, erasure_settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    token = f"canary{new_id().hex[-12:]}"
    person = await leave_traces(world, token)
    before = await places(world, token)
    assert set(before) == {"tables", "redis", "store", "sendgrid", "stripe"}, "the search finds what is there"
    assert {key.split(":")[1] for key in before["redis"]} >= {"p", "why"}
    assert await sessions_of(world, person)
    assert {"erasure_requests.reason", "erasure_requests.held"} <= before["tables"]
    assert len(before["tables"]) >= 12
    owed = canary.owed()
    assert len(owed) >= 11
    # Secrets bear the token, too, and are not among it; nor is anything twice but what each address has its own of.
    rows = dict.fromkeys(owed, 1) | {"mail_suppressions.email": 2}
    assert canary.in_copy(await world.copy(person), token) == rows
    copies = await world.superuser.fetch("SELECT key FROM data_exports WHERE user_id = $1", person.id)
    assert len(copies) == 2
    await world.ask(person)
    await world.after_a_day()
    request = await world.request(person)
    assert request["state"] == "done", request["held"]
    # What others were told about them is the others' news, and goes with its own retention.
    clock.advance(timedelta(days=LATER))
    while await purge_expired(world.resources):
        pass
    assert await places(world, token, later=timedelta(days=LATER)) == {}
    assert not await sessions_of(world, person)
    assert person.organization_id is not None
    marks = canary.marks(Subject(person.id, (person.email,)), token, person.organization_id)
    assert not await canary.in_redis(world.resources.redis, *marks, within=timedelta(days=LATER)), "never ends"
    for row in copies:
        with pytest.raises(NotStored):  # a packed copy shows no token
            await world.resources.get(Storage).size(row["key"])
    assert not await canary.in_tables(world.superuser, f"{person.id}@"), "no pseudonym made of the person"
    pointed = await canary.in_tables(world.superuser, str(person.id))
    assert pointed <= canary.kept() | {"pgqueuer.headers", "pgqueuer.payload"}, "only where the map gives a reason"
    out, err = capfd.readouterr()
    assert token not in out + err, "the log never knew"
    maintenance = world.resources.maintenance
    assert maintenance is not None
    await seal(maintenance, erasure_settings)
    report = await verify(maintenance, erasure_settings)
    assert report.ok, report.problems
    assert await world.superuser.fetchval("SELECT count(*) FROM audit_log WHERE actor_id = $1", person.id) > 0


async def sessions_of(world: World, person: Person) -> set[str]:
    """And the list of them; what else bears the person's number are counts that end within minutes."""
    found = await canary.in_redis(world.resources.redis, person.id.hex)
    return {key for key in found if key.split(":")[1] in ("s", "us")}


MUTANTS = {"close": "sessions", "files": "store", "stripe": "stripe", "mail": "sendgrid", "tables": "tables"}
"""Without the step something still knows the person. What the farewell and the ledger are for, test_machine.py and
test_restore.py look for."""


@pytest.mark.parametrize("name", MUTANTS)
async def test_it_bites_without_one_of_the_steps(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    token = f"canary{new_id().hex[-12:]}"
    person = await leave_traces(world, token)

    async def nothing(resources: Resources, case: Any) -> dict[str, Any]:
        return {}

    monkeypatch.setitem(STEPS, name, nothing)
    await world.ask(person)
    await world.after_a_day()
    assert (await world.request(person))["state"] == "done"
    left = await places(world, token)
    left |= {"sessions": found} if (found := await sessions_of(world, person)) else {}
    assert MUTANTS[name] in left
    assert (name == "close") is ("sessions" in left)


async def test_a_ledger_entry_says_nothing_about_anybody(world: World) -> None:
    token = f"canary{new_id().hex[-12:]}"
    person = await leave_traces(world, token)
    await world.ask(person)
    await world.after_a_day()
    storage = world.resources.get(Storage)
    keys = [one.key async for one in storage.walk("erasures/")]
    assert keys
    written = b"".join([part for key in keys async for part in storage.get(key)])
    assert token.encode() not in written
    assert await arrivals.unreplayed(world.resources) == []


LEAST_INTERNAL, LEAST_PERSONAL = 140, 10
INTERNAL_HOLDS = {
    "audit_log.reason": "staff's own words: the map calls them a message about a person, kept for a year by the law "
    "that it cites; addresses are taken out of them",
}
"""Internal columns in which a person may stand, each with why."""


async def meet_people(world: World, token: str) -> None:
    """What the traces that are planted cannot show: where the product itself writes what people type about people."""
    person = await leave_traces(world, token)
    async with await world.factory.client(person) as client:
        for path, page, fields in (
            ("/account/email", "/account", {"email": f"next-{token}@example.com"}),
            ("/members/invitations", "/members", {"email": f"friend-{token}@example.com", "role": "viewer"}),
        ):
            answer = await client.submit(path, page=page, **fields)
            assert answer.status_code == 303, answer.text[:2_000]
    async with await world.factory.client() as visitor:
        fields = {"name": f"Nora {token}", "email": f"nora-{token}@example.com", "password": PASSWORD}
        assert (await visitor.submit("/sign-up", **fields)).status_code == 303
    async with await world.factory.client(await world.factory.person(staff=True), "password", "totp") as staff:
        said = {"next": f"/staff/people?q={token}", "reason": f"{token} has called and waits"}
        assert (await staff.submit("/staff/reasons", page="/staff/reasons", **said)).status_code == 303
        assert token in await staff.page(said["next"])


async def test_nothing_that_is_declared_internal_shows_a_person(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    token = f"canary{new_id().hex[-12:]}"
    await meet_people(world, token)
    assert len(await internal_columns(world.superuser)) >= LEAST_INTERNAL, "the scan sees too few columns"
    found = await people_in_internal(world.superuser, token)
    assert found.keys() == INTERNAL_HOLDS.keys(), (
        f"{found}: it is declared internal() and holds a person, so it stands in no copy, outlives an erasure and is "
        "logged in clear. Declare it personal(), or say in INTERNAL_HOLDS why not"
    )
    # Nor does a kind of key in Redis of which the map says that it is about nobody.
    kinds = {key.split(":")[1] for key in await canary.in_redis(world.resources.redis, token)}
    known = of_kind(Kind.REDIS)
    assert len(kinds) >= 2, "the search finds what is there"
    assert [kind for kind in kinds if not known[kind].is_personal] == []

    # It bites: had any of those that hold the token been declared internal, it would be named.
    marked = await canary.in_tables(world.superuser, token)
    holding = {
        str(column): column
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if protection_of(column) is Protection.PERSONAL and str(column) in marked
    }
    assert len(holding) >= LEAST_PERSONAL, sorted(holding)
    for column in holding.values():
        monkeypatch.setitem(column.info, "privacy", internal()["privacy"])
    assert (await people_in_internal(world.superuser, token)).keys() == holding.keys() | INTERNAL_HOLDS.keys()
