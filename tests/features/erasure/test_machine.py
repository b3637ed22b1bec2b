"""Erasure over HTTP and through the machine: the day to think, two pairs of eyes, outages, holds, and crashes."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from infra.sandbox.sendgrid import SendGridKnobs
from infra.sandbox.stripe.knobs import StripeKnobs
from service.core import clock
from service.core.context import Resources
from service.core.ids import new_id
from service.features.erasure import jobs
from service.features.erasure.flows import arrivals
from service.features.erasure.flows import steps as machine_steps
from service.features.erasure.flows.steps import STEPS
from service.guardrails import sessions
from service.guardrails.erasure import unable
from service.guardrails.jobs import Event
from service.guardrails.permissions import Role
from service.guardrails.purge import purge_expired
from service.guardrails.residency import at_home
from service.guardrails.subjects import address_hash
from service.integrations.storage import Storage
from service.web.mail import Ready, hand_over
from tests.features.erasure.world import HOME, World
from tests.support.client import Client
from tests.support.factories import Person

pytest_plugins = ("tests.guardrails.durability", "tests.features.erasure.planet")
IDLE = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'
"""
ENTER = "/staff/erasures/enter"
LETTER = "Letter of 3 March, ticket 4711"
CHECKED = "Called back on the known number"


async def test_a_person_asks_and_everybody_forgets_them(world: World) -> None:
    shared = await world.factory.person(Role.OWNER)
    ada = await world.factory.person(Role.OWNER)
    await world.superuser.execute(
        "INSERT INTO memberships (id, organization_id, user_id, role, created_at) VALUES ($1, $2, $3, 'admin', now())",
        new_id(), shared.organization_id, ada.id,
    )  # fmt: skip
    kept, gone = (
        await world.customer(shared.organization_id, ada.email),
        await world.customer(ada.organization_id, ada.email),
    )
    indicator = await world.factory.indicator(shared.organization_id or new_id(), created_by=ada.id)
    world.sendgrid.spared[ada.email] = "bounce"
    async with await world.factory.client(ada) as client:
        page = await client.page(HOME)
        assert "What stays, and why" in page
        assert "GDPR Art. 21(3)" in page, "kept, with the law"
        wrong = await client.submit(HOME, page=HOME, email="somebody@example.com")
        assert wrong.status_code == 422
        await world.ask(ada)
        assert "Take it back" in await client.page(HOME)
        await world.work_off()
        assert (await world.request(ada))["state"] == "waiting", "a day to think better of it"
        await world.after_a_day()
        assert (await client.get("/account")).status_code in (303, 401), "every session has ended"
    request = await world.request(ada)
    assert (request["state"], request["email"], request["reason"], request["held"]) == ("done", None, None, "")
    steps = await world.steps(ada)
    assert list(steps) == list(STEPS)
    assert "SendGrid erases it" in steps["mail"]
    assert ada.email in world.sendgrid.erased
    assert ada.email not in world.sendgrid.spared
    assert world.at_stripe(gone) is None, "the organization was theirs alone"
    emptied = world.at_stripe(kept)
    assert emptied is not None
    assert not emptied["email"], "the organization goes on without their address"
    assert not await world.exists(ada)
    author = await world.superuser.fetchrow("SELECT created_by, name FROM indicators WHERE id = $1", indicator)
    assert author is not None
    assert author["created_by"] is None, "what they wrote is the organization's, without them"
    stored = [one.key async for one in world.resources.get(Storage).walk("erasures/")]
    assert at_home(world.resources, f"erasures/{request['id']}") in stored


async def test_taking_it_back(world: World, person: Person) -> None:
    await world.ask(person)
    async with await world.factory.client(person) as client:
        again = await client.submit(HOME, page="/privacy/choices", email=person.email)
        assert "open request already" in again.text
    _, login = await world.factory.log_in(person)
    hour_ago = clock.now() - timedelta(hours=1)
    token, stale = await sessions.rotate(world.resources, login, authenticated_at=hour_ago)
    cookies = {sessions.cookie_name(world.resources.settings): token}
    async with Client(world.factory.url, csrf=stale.csrf, cookies=cookies) as left_open:
        asked = await left_open.submit(f"{HOME}/withdraw", page=HOME)
        assert asked.headers["location"].startswith("/confirm"), "whoever sits at an open browser proves who they are"
        assert (await world.request(person))["state"] == "waiting"
    async with await world.factory.client(person) as client:
        await client.submit(f"{HOME}/withdraw", page=HOME)
        await client.submit(f"{HOME}/withdraw", page="/privacy/choices")
        assert "no request to take back" in await client.page(HOME)
    request = (await world.request(person))["id"]
    queued = "SELECT count(*) FROM pgqueuer WHERE entrypoint = $1 AND convert_from(payload, 'UTF8') LIKE $2"
    job = "erasure.tell_that_it_was_taken_back"
    assert await world.superuser.fetchval(queued, job, f"%{request}%") == 1
    async with world.acting() as ctx:
        await jobs.tell_that_it_was_taken_back(ctx, Event("erasure.withdraw", "erasure_requests", request))
    assert [mail.subject for mail in world.sendgrid.inbox.to(person.email)] == ["Your data are not erased"]
    await world.after_a_day()
    assert ((await world.request(person))["state"], await world.exists(person)) == ("withdrawn", True)


async def test_the_only_owner_has_to_hand_over_first(world: World) -> None:
    owner = await world.factory.person(Role.OWNER)
    await world.factory.person(Role.MEMBER, owner.organization_id)
    async with await world.factory.client(owner) as client:
        answer = await client.submit(HOME, page=HOME, email=owner.email)
        assert answer.status_code == 422
        assert "You are the only owner of" in answer.text
    staff = await world.factory.person(staff=True)
    async with await world.factory.client(staff, "password", "totp") as office:
        answer = await office.submit(ENTER, page=ENTER, email=owner.email, reason=LETTER)
        assert "This person is the only owner of" in answer.text


async def emergency(world: World, staff: Person, until: datetime | None) -> None:
    await world.superuser.execute("UPDATE users SET emergency_until = $2 WHERE id = $1", staff.id, until)


async def test_a_letter_needs_two_members_of_staff(world: World, person: Person) -> None:
    one, other = [await world.factory.person(staff=True) for _ in range(2)]
    lists = "/staff/erasures"
    async with await world.factory.client(one, "password", "totp") as first:
        unknown = await first.submit(ENTER, page=ENTER, email="nobody@example.com", reason=LETTER)
        assert "no account with this address" in unknown.text
        await first.submit(ENTER, page=ENTER, email=other.email, reason=LETTER)
        asked = "SELECT facts FROM audit_log WHERE action = 'erasure.enter' AND outcome = 'refused' AND actor_id = $1"
        noted = str(await world.superuser.fetch(asked, one.id))
        assert address_hash("nobody@example.com").hex() in noted, "whoever tries addresses leaves a trace"
        assert str(other.id) in noted
        made = await first.submit(ENTER, page=ENTER, email=person.email, reason=LETTER)
        assert (made.status_code, made.headers["location"]) == (303, lists)
        path = f"{lists}/{(await world.request(person))['id']}"
        assert path in await first.page(f"{lists}?user_id={person.id}")
        assert f"{path}/verify" not in await first.page(path), "what would be refused is not offered"
        alone = await first.submit(f"{path}/verify", page=path, reason=CHECKED)
        assert alone.status_code == 422
        assert "You entered this request yourself" in alone.text
    await world.after_a_day()
    assert (await world.request(person))["state"] == "requested", "nothing happens until a second one checked"
    async with await world.factory.client(person) as client:
        assert "wrote to us in your name" in await client.page(HOME)
    await emergency(world, other, clock.now() + timedelta(hours=1))
    async with await world.factory.client(other, "password", "totp") as opened:
        for where, fields in ((f"{path}/verify", {}), (ENTER, {"email": other.email})):
            refused = await opened.submit(where, page=lists, reason=CHECKED, **fields)
            assert refused.status_code == 422
            assert "You have emergency rights at this moment" in refused.text, "opened from a shell: no second person"
    assert (await world.request(person))["state"] == "requested"
    await emergency(world, other, None)
    async with await world.factory.client(other, "password", "totp") as second:
        page = await second.page(path)
        assert (LETTER in page, f'href="/staff/people/{person.id}"' in page) == (False, True), "it may name somebody"
        await second.submit("/staff/reasons", page=f"/staff/reasons?next={path}", next=path, reason=CHECKED)
        assert LETTER in await second.page(path), "who checks a letter has to know which"
        looks = "SELECT count(*) FROM audit_log WHERE action = 'staff.read_personal' AND actor_id = $1"
        assert await world.superuser.fetchval(looks, other.id) == 1
        assert (await second.submit(f"{path}/verify", page=path, reason=CHECKED)).status_code == 303
    await world.after_a_day()
    assert (await world.request(person))["state"] == "done"
    told = [mail.subject for mail in world.sendgrid.inbox.to(person.email)]
    assert "We erase your data now" in told
    async with await world.factory.client(other, "password", "totp") as second:
        page = await second.page(path)
        assert "Every table has been walked" in page
        assert person.email not in page + await second.page(lists)
    reasons = await world.superuser.fetch("SELECT reason FROM audit_log WHERE action LIKE 'erasure.%'")
    assert {LETTER, CHECKED} <= {row["reason"] for row in reasons}


async def test_a_refused_letter_changes_nothing(world: World, person: Person) -> None:
    one, other = [await world.factory.person(staff=True) for _ in range(2)]
    async with (
        await world.factory.client(one, "password", "totp") as first,
        await world.factory.client(other, "password", "totp") as second,
    ):
        await first.submit(ENTER, page=ENTER, email=person.email, reason=f"{LETTER} {person.email}")
        path = f"/staff/erasures/{(await world.request(person))['id']}"
        refused = await second.submit(f"{path}/refuse", page=path, reason="The signature is not theirs.")
        assert refused.status_code == 303
        again = await second.submit(f"{path}/refuse", page=path, reason="The signature is not theirs.")
        assert (again.status_code, "does not wait for a check" in again.text) == (422, True)
    await world.after_a_day()
    request = await world.request(person)
    assert (request["state"], request["reason"], request["held"]) == ("refused", None, "The signature is not theirs.")
    assert await world.exists(person)
    told = await world.superuser.fetch("SELECT reason FROM audit_log WHERE action = 'erasure.enter'")
    assert not any(person.email in row["reason"] for row in told), "the log cannot forget, so it does not learn it"


async def test_a_legal_hold_stops_it_where_all_can_see(world: World, person: Person) -> None:
    await world.ask(person)
    hold = new_id()
    await world.superuser.execute(
        "INSERT INTO legal_holds (id, subject_id, reason, placed_at) VALUES ($1, $2, 'Smith v. us', now())",
        hold, person.id,
    )  # fmt: skip
    await world.after_a_day()
    request = await world.request(person)
    assert (request["state"], await world.exists(person)) == ("waiting", True)
    assert "legal hold" in request["held"]
    async with await world.factory.client(person) as client:
        assert "A legal hold keeps" in await client.page(HOME)
    await world.superuser.execute("UPDATE legal_holds SET lifted_at = now() WHERE id = $1", hold)
    clock.advance(timedelta(hours=2))
    await world.work_off()
    assert (await world.request(person))["state"] == "done"


async def test_an_outage_makes_it_wait_and_loses_no_step(world: World, person: Person) -> None:
    customer = await world.customer(person.organization_id, person.email)
    await world.ask(person)
    world.stripe.account.knobs = StripeKnobs(api_error_before=1)
    await world.after_a_day()
    request = await world.request(person)
    assert request["state"] == "executing"
    assert "Stripe is away" in request["held"]
    assert list(await world.steps(person)) == ["close", "farewell", "files"]
    assert await world.exists(person), "whom Stripe still knows must not be forgotten by us"
    world.stripe.account.knobs, world.sendgrid.knobs = StripeKnobs(), SendGridKnobs(outage=True)
    clock.advance(timedelta(hours=2))
    await world.work_off()
    assert "mail provider is away" in (await world.request(person))["held"]
    world.sendgrid.knobs = SendGridKnobs()
    clock.advance(timedelta(hours=2))
    await world.work_off()
    assert (await world.request(person))["state"] == "done"
    emptied = world.at_stripe(customer)
    assert emptied is not None
    assert not emptied["email"]


class Killed(BaseException):
    """As kill -9: nothing catches it, nothing is noted after it."""


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("name", list(STEPS))
async def test_a_crash_around_any_step_is_gone_on_from(
    world: World, person: Person, name: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.ask(person)
    real, run = STEPS[name], list[str]()

    async def dies(*arguments: object) -> dict[str, object]:
        if moment == "after":
            await real(*arguments)  # type: ignore[arg-type]
        raise Killed

    monkeypatch.setitem(STEPS, name, dies)
    with pytest.raises(Killed):
        await world.after_a_day()
    assert name not in await world.steps(person)
    monkeypatch.setitem(STEPS, name, real)
    await world.work_off()
    assert (await world.request(person))["state"] == "executing", "the dead worker's lease holds for minutes"
    clock.advance(timedelta(minutes=4))
    await world.work_off()
    run = list(await world.steps(person))
    assert (run, await world.exists(person)) == (list(STEPS), False)
    assert (await world.request(person))["state"] == "done"


async def test_a_deleted_account_leaves_the_same_emptiness(world: World, person: Person) -> None:
    """The undo of 30 days stays; what comes after it is the machine, not a DELETE that forgets Stripe and the rest."""
    await world.superuser.execute("UPDATE users SET deleted_at = now(), deletion_id = id WHERE id = $1", person.id)
    clock.advance(timedelta(days=29))
    assert await arrivals.take_up_deleted(world.resources.database) == 0
    clock.advance(timedelta(days=1, hours=2))
    await purge_expired(world.resources)
    assert await world.exists(person), "the purge leaves people to the machine"
    assert await arrivals.take_up_deleted(world.resources.database) == 1
    assert await arrivals.take_up_deleted(world.resources.database) == 0
    await world.work_off()
    assert ((await world.request(person))["state"], await world.exists(person)) == ("done", False)
    assert person.email in world.sendgrid.erased


async def test_the_walker_may_write_what_it_empties(world: World) -> None:
    from service.catalog import load_tables

    tables = [(table.name, name) for table in load_tables().tables.values() for name in unable(table)]
    assert len(tables) >= 3, "the scan sees too little"
    rights = "SELECT has_column_privilege('ballast_maintenance', $1, $2, 'UPDATE')"
    without = [each for each in tables if not await world.superuser.fetchval(rights, *each)]
    assert not without, f"{without}: GRANT UPDATE (column) ON table TO ballast_maintenance, or an erasure fails here"


async def test_the_farewell_leaves_with_no_transaction_open(
    world: World, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider that takes its time must keep nothing of the database waiting."""
    idle: list[int] = []

    async def watched(resources: Resources, ready: Ready) -> None:
        for _ in range(600):
            idle.append(await world.superuser.fetchval(IDLE))
            if not idle[-1]:
                break
            await asyncio.sleep(0.05)
        await hand_over(resources, ready)

    monkeypatch.setattr(machine_steps, "hand_over", watched)
    await world.ask(person)
    await world.after_a_day()
    assert idle, "a farewell was sent"
    # One that is left open ends the waiting, too: the database hangs up on it, and the step has failed.
    state = (await world.request(person))["state"]
    assert (idle[-1], state) == (0, "done"), "a transaction stays open for as long as the provider thinks"
