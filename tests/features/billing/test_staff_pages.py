"""The staff's pages on billing: only for staff, with a reason and a fresh proof, and they show what they say."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import orjson
import pytest

from infra.sandbox.stripe.server import StripeStandIn
from service.core import clock
from service.core.ids import new_id
from service.guardrails.permissions import Role
from tests.features.billing.conftest import MakeBuyer, Subscribe
from tests.support.client import HIDDEN, Client
from tests.support.factories import Factory, Person
from tests.support.stripe import Subscriber

HOME = "/staff/billing"


@pytest.fixture
async def staff_person(factory: Factory) -> Person:
    return await factory.person(Role.OWNER, staff=True)


@pytest.fixture
async def staff(factory: Factory, staff_person: Person) -> AsyncIterator[Client]:
    async with await factory.client(staff_person, "password", "totp") as client:
        yield client


async def act(client: Client, path: str, **fields: str) -> httpx.Response:
    return await client.post(path, csrf=client.csrf, **{"reason": "A test of ours", **fields})


async def page_of(customer: Subscriber) -> str:
    return f"{HOME}/customers/{(await customer.row())['id']}"


async def intent_on(client: Client, path: str) -> str:
    return str(dict(HIDDEN.findall(await client.page(path)))["intent"])


async def message(superuser: asyncpg.Connection[Any], **columns: Any) -> int:
    """A message as the webhook saves it."""
    values = {
        "source": "stripe", "realm": "test", "external_id": f"evt_{new_id().hex}", "type": "invoice.paid",
        "subject": f"cus_{new_id().hex[-12:]}", "facts": {}, "body": b'{"id": "evt_1"}', "state": "unmatched",
        "reason": "", "attempts": 1, "next_attempt_at": clock.now() + timedelta(hours=1),
        "received_at": clock.now(), **columns,
    }  # fmt: skip
    values["facts"] = orjson.dumps(values["facts"]).decode()
    marks = ", ".join(f"${n + 1}" for n in range(len(values)))
    found = await superuser.fetchval(
        f"INSERT INTO inbox ({', '.join(values)}) VALUES ({marks}) RETURNING id", *values.values()
    )
    return int(found)


async def row_of(superuser: asyncpg.Connection[Any], message_id: int) -> asyncpg.Record:
    row = await superuser.fetchrow("SELECT * FROM inbox WHERE id = $1", message_id)
    assert row is not None
    return row


async def logged(superuser: asyncpg.Connection[Any], action: str, person: Person) -> asyncpg.Record:
    row = await superuser.fetchrow(
        "SELECT * FROM audit_log WHERE action = $1 AND actor_id = $2 ORDER BY id DESC LIMIT 1", action, person.id
    )
    assert row is not None, f"{action} is not in the log"
    return row


@pytest.mark.parametrize("role", list(Role))
async def test_nobody_else_gets_in(factory: Factory, superuser: asyncpg.Connection[Any], role: Role) -> None:
    known = await message(superuser)
    async with await factory.client(await factory.person(role)) as client:
        for path in ("", "/inbox", "/inbox/csv", f"/inbox/{known}", f"/customers/{new_id()}"):
            assert (await client.get(f"{HOME}{path}")).status_code == 404, path
        assert (await act(client, f"{HOME}/inbox/{known}/discard")).status_code == 404
        assert (await act(client, f"{HOME}/inbox/{known}/link", organization=str(new_id()))).status_code == 404
        assert (await act(client, HOME)).status_code == 404
        assert HOME not in await client.page("/members")


async def test_what_does_not_exist_is_not_found(staff: Client) -> None:
    for path in (f"{HOME}/customers/{new_id()}", f"{HOME}/customers/{new_id()}/diff", f"{HOME}/inbox/{2**62}"):
        assert (await staff.get(path)).status_code == 404, path
    assert (await act(staff, f"{HOME}/customers/{new_id()}", act="resync", intent="x")).status_code == 404


async def test_the_summary_is_linked_from_the_panel_and_counts(
    staff: Client, superuser: asyncpg.Connection[Any]
) -> None:
    assert f'href="{HOME}"' in await staff.page("/staff")
    await message(superuser)
    await superuser.execute(
        "INSERT INTO billing_sweeps (stream, cursor, ran_at, drift)"
        " VALUES ('probe', 0, now(), '{\"state_differs\": 3}')"
        " ON CONFLICT DO NOTHING"
    )
    text = await staff.page(HOME)
    await superuser.execute("DELETE FROM billing_sweeps WHERE stream = 'probe'")
    assert "state differs: 3" in text
    assert "Messages of nobody we know" in text
    assert "asked as usual" in text


async def test_one_customer_is_found_by_ids_and_by_a_part_of_the_name(
    staff: Client, subscriber: Subscribe, factory: Factory
) -> None:
    organization = await factory.organization(f"100% Möwe & Söhne {new_id().hex[-6:]}")
    customer = await subscriber(organization=organization)
    row, link = await customer.row(), await page_of(customer)
    for wanted in (customer.customer, str(row["id"]), str(organization), "möwe & s"):
        found = await staff.get(HOME, params={"q": wanted})
        assert link in found.text, wanted
    assert link not in (await staff.get(HOME, params={"q": "100_ M"})).text, "no wildcard of SQL"
    assert "Nobody" in (await staff.get(HOME, params={"q": "no such name at all"})).text


async def test_who_never_bought_anything_can_be_given_a_plan(staff: Client, buyer: MakeBuyer) -> None:
    """What sales has promised: a plan for an organization that has no customer at Stripe, with a reason and an end."""
    ada = await buyer()
    organization = str(ada.person.organization_id)
    found = await staff.page(HOME + "?q=" + organization)
    assert "Make it a customer" in found
    made = await act(staff, f"{HOME}/organizations/{organization}")
    place = made.headers["location"]
    assert place.startswith(f"{HOME}/customers/")
    again = await act(staff, f"{HOME}/organizations/{organization}")
    assert again.headers["location"] == place, "there is only one"
    ends = (clock.now() + timedelta(days=30)).date().isoformat()
    assert (await act(staff, f"{place}/override", plan="business", ends_on=ends)).status_code == 303
    await ada.until("A gift from us until")
    assert (await act(staff, f"{HOME}/organizations/{new_id()}")).status_code == 404


async def test_a_name_is_sought_by_staff_alone(factory: Factory, resources: Any) -> None:
    """Row-level security itself: the setting alone opens nothing for anybody else."""
    organization = await factory.organization("Hidden from the others")
    found = {}
    for staff in (True, False):
        person = await factory.person(Role.OWNER, staff=staff)
        async with resources.database.unit_of_work(user=person.id) as work:
            await work.raw.execute("SELECT set_config('app.sought', 'hidden from', true)")
            found[staff] = await work.raw.fetchval("SELECT count(*) FROM organizations WHERE id = $1", organization)
    assert found == {True: 1, False: 0}


async def test_the_inbox_is_filtered_and_paged(staff: Client, superuser: asyncpg.Connection[Any]) -> None:
    kind, subject = f"probe.{new_id().hex[-8:]}", f"cus_{new_id().hex[-8:]}"
    ids = [await message(superuser, type=kind, subject=subject) for _ in range(3)]
    old = await message(superuser, type=kind, state="processed", received_at=clock.now() - timedelta(days=40))
    day = f"{clock.now() - timedelta(days=2):%Y-%m-%d}"

    async def shown(query: str) -> list[int]:
        text = await staff.page(f"{HOME}/inbox?{query}")
        return [int(found) for found in re.findall(rf'href="{HOME}/inbox/(\d+)"', text)]

    assert await shown(f"type={kind}") == [old, *ids[::-1]]
    assert await shown(f"type={kind}&state=processed") == [old]
    assert await shown(f"subject={subject}") == ids[::-1]
    assert await shown(f"type={kind}&state=unmatched&subject={subject}&since={day}") == ids[::-1]
    assert await shown("since=2999-01-01") == []
    first = await staff.page(f"{HOME}/inbox?type={kind}&limit=2")
    [older] = re.findall(r'href="([^"]+)"[^>]*rel="next"', first)
    assert [
        int(one) for one in re.findall(rf'href="{HOME}/inbox/(\d+)"', await staff.page(older.replace("&amp;", "&")))
    ]
    whole = await staff.get(f"{HOME}/inbox/csv?type={kind}&state=unmatched")
    assert whole.text.count(subject) == 3, "the export has what the filters show"
    wrong = await staff.get(f"{HOME}/inbox?state=lost")
    assert wrong.status_code == 422
    assert "Nothing was looked up" in wrong.text


async def test_a_message_shows_what_it_became_and_its_body_only_for_a_reason(
    staff: Client, staff_person: Person, subscriber: Subscribe, superuser: asyncpg.Connection[Any]
) -> None:
    customer = await subscriber()
    said = {"external_id": f"evt_{new_id().hex}", "body": b'{"of": "customer.subscription.created"}'}
    known = await row_of(superuser, await message(superuser, subject=customer.customer, state="dead", **said))
    path = f"{HOME}/inbox/{known['id']}"
    text = await staff.page(path)
    assert known["external_id"] in text
    assert await page_of(customer) in text
    assert "customer.subscription.created" not in text
    refused = await act(staff, f"{path}/read", reason=" ")
    assert refused.status_code == 422
    assert "As it came" not in refused.text
    shown = await act(staff, f"{path}/read", reason="The customer asked what we know")
    assert shown.status_code == 200
    assert "As it came" in shown.text
    assert "customer.subscription.created" in shown.text
    line = await logged(superuser, "billing.read_body", staff_person)
    assert line["reason"] == "The customer asked what we know"
    assert line["organization_id"] == customer.organization


async def test_a_message_leads_to_the_plan_that_its_reading_changed(
    staff: Client, subscriber: Subscribe, superuser: asyncpg.Connection[Any]
) -> None:
    customer = await subscriber()
    subscription = customer.subscribe("team")
    await customer.settled()
    customer.change_to(subscription, "business")
    await customer.settled()
    readings = await superuser.fetch(
        "SELECT DISTINCT ON (applied_version) id, applied_version FROM inbox WHERE subject = $1", customer.customer
    )
    changes = {}
    for one in readings:
        text = await staff.page(f"{HOME}/inbox/{one['id']}")
        changes[one["applied_version"]] = sorted(re.findall(r"<b>(from|to)</b> (\w+)", text))
    assert [("from", "free"), ("to", "team")] in changes.values()
    assert [("from", "team"), ("to", "business")] in changes.values()


async def test_a_body_that_is_gone_or_no_text_is_still_shown(staff: Client, superuser: asyncpg.Connection[Any]) -> None:
    gone, odd = await message(superuser, body=None), await message(superuser, body=b"\xff<script>alert(1)</script>")
    assert "deleted once it is dealt with" in (await act(staff, f"{HOME}/inbox/{gone}/read")).text
    text = (await act(staff, f"{HOME}/inbox/{odd}/read")).text
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert" not in text


async def test_staff_prove_again_who_they_are(
    staff: Client, staff_person: Person, subscriber: Subscribe, superuser: asyncpg.Connection[Any]
) -> None:
    known, customer = await message(superuser), await subscriber()
    path = await page_of(customer)
    clock.advance(timedelta(minutes=11))
    for target, fields in (
        (HOME, {}),
        (f"{HOME}/inbox/{known}/read", {}),
        (f"{HOME}/inbox/{known}/discard", {}),
        (f"{HOME}/inbox/{known}/link", {"organization": str(customer.organization)}),
        (f"{HOME}/inbox/replay", {"state": "unmatched"}),
        ("/staff/dead-letters/stripe-customers/replay", {}),
        (path, {"act": "resync", "intent": "a"}),
        (path, {"act": "cancel", "intent": "b"}),
        (f"{path}/override", {"plan": "team", "ends_on": "2090-01-01"}),
    ):
        answer = await act(staff, target, **fields)
        assert answer.headers.get("location", "").startswith("/confirm"), target
    clock.reset()
    assert (await row_of(superuser, known))["state"] == "unmatched"
    # Each of these acts would have left its line, whatever the sweeps of the worker read again meanwhile.
    mine = "SELECT action FROM audit_log WHERE actor_id = $1 AND outcome = 'done' AND action LIKE 'billing.%'"
    assert await superuser.fetch(mine, staff_person.id) == []
    for table in ("billing_operations", "billing_overrides"):
        counted = f"SELECT count(*) FROM {table} WHERE organization_id = $1"
        assert await superuser.fetchval(counted, customer.organization) == 0, table


async def test_a_message_is_discarded_once(
    staff: Client, staff_person: Person, superuser: asyncpg.Connection[Any]
) -> None:
    known = await message(superuser)
    assert (await act(staff, f"{HOME}/inbox/{known}/discard", reason="Another product's")).status_code == 303
    row = await row_of(superuser, known)
    assert (row["state"], row["reason"]) == ("ignored", "discarded")
    line = await logged(superuser, "billing.discard", staff_person)
    assert (line["reason"], line["organization_id"]) == ("Another product's", None)
    again = await act(staff, f"{HOME}/inbox/{known}/discard")
    assert again.status_code == 422
    assert "settled already" in again.text


async def test_scenario_28_an_unmatched_customer_is_linked_by_hand(
    staff: Client, staff_person: Person, connected: StripeStandIn, subscriber: Subscribe, factory: Factory
) -> None:
    """Paid through a link of which we know nothing: visible to staff, who tie it; then it counts at once."""
    customer = await subscriber()
    await customer.settled()
    await customer.superuser.execute("DELETE FROM billing_customers WHERE stripe_customer_id = $1", customer.customer)
    with connected.account.lock:
        connected.account.store.get("customer", customer.customer)["metadata"] = {}
    customer.subscribe("team")
    await customer.delivered()
    known = await customer.superuser.fetchval(
        "SELECT min(id) FROM inbox WHERE subject = $1 AND state = 'unmatched'", customer.customer
    )
    assert f"{HOME}/inbox/{known}" in await staff.page(f"{HOME}/inbox?state=unmatched&subject={customer.customer}")
    path = f"{HOME}/inbox/{known}/link"
    nobody = await act(staff, path, organization=str(new_id()))
    assert nobody.status_code == 422
    assert "There is no such organization" in nobody.text
    linked = await act(staff, path, organization=str(customer.organization), reason="Their mail names the payment")
    assert linked.headers["location"] == await page_of(customer)
    waiting = "SELECT count(*) FROM inbox WHERE subject = $1 AND state = 'unmatched'"
    assert await customer.superuser.fetchval(waiting, customer.customer) == 0, (
        "what had waited is released with the tie"
    )
    await customer.settled()
    assert await customer.plan() == "team"
    line = await logged(customer.superuser, "billing.link", staff_person)
    assert (line["reason"], line["organization_id"]) == ("Their mail names the payment", customer.organization)


async def test_scenario_30_a_second_tie_is_refused_and_says_which_there_is(
    staff: Client, subscriber: Subscribe, superuser: asyncpg.Connection[Any], factory: Factory
) -> None:
    customer = await subscriber()
    stranger = await message(superuser)
    answer = await act(staff, f"{HOME}/inbox/{stranger}/link", organization=str(customer.organization))
    assert answer.status_code == 422
    assert f"{customer.customer} belongs to organization {customer.organization}" in answer.text
    known = await message(superuser, subject=customer.customer)
    other = await factory.organization()
    assert (await act(staff, f"{HOME}/inbox/{known}/link", organization=str(other))).status_code == 422
    assert (await customer.row())["organization_id"] == customer.organization
    mode = await message(superuser, state="ignored", reason="mode")
    assert (await act(staff, f"{HOME}/inbox/{mode}/link", organization=str(other))).status_code == 422
    assert await superuser.fetchval("SELECT count(*) FROM billing_customers WHERE organization_id = $1", other) == 0


async def test_one_customer_with_everything(staff: Client, subscriber: Subscribe) -> None:
    customer = await subscriber()
    subscription = customer.subscribe("team")
    await customer.settled()
    text = await staff.page(await page_of(customer))
    for part in (customer.customer, str(customer.organization), subscription["id"], "ballast_team_monthly", "Team"):
        assert part in text, part
    assert "subscriptions are live" not in text


async def test_scenario_36_two_live_subscriptions_are_pointed_out(staff: Client, subscriber: Subscribe) -> None:
    customer = await subscriber()
    cheaper = customer.subscribe("team")
    customer.subscribe("business")
    await customer.settled()
    path = await page_of(customer)
    assert "2 subscriptions are live" in await staff.page(path)
    assert await customer.plan() == "business", "the best plan counts meanwhile"
    unsaid = await act(staff, path, act="cancel", intent=new_id().hex)
    assert (unsaid.status_code, "Choose which of them shall end" in unsaid.text) == (422, True)
    ended = await act(staff, path, act="cancel", intent=new_id().hex, subscription=cheaper["id"])
    assert ended.status_code == 303
    await customer.settled()
    assert cheaper["status"] == "canceled"
    assert await customer.plan() == "business", "the one that was chosen ended, not the newest"


async def test_scenario_31_a_customer_deleted_at_stripe_is_marked(
    staff: Client, connected: StripeStandIn, subscriber: Subscribe
) -> None:
    from infra.sandbox.stripe import customers

    customer = await subscriber()
    customer.subscribe("team")
    await customer.settled()
    with connected.account.lock:
        customers.delete(connected.account, {}, customer.customer)
    await customer.settled()
    text = await staff.page(path := await page_of(customer))
    assert "Deleted at Stripe" in text
    assert await customer.plan() == "free"
    assert "No difference" in await staff.page(f"{path}/diff")
