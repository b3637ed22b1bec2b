"""The staff's pages on billing: only for staff, with a fresh proof, customers found and shown with everything."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from infra.sandbox.stripe.server import StripeStandIn
from service.core import clock
from service.core.ids import new_id
from service.guardrails.permissions import Role
from tests.features.billing.conftest import MakeBuyer, Subscribe
from tests.features.billing.staff_desk import HOME, act, message, page_of, row_of
from tests.support.client import Client
from tests.support.factories import Factory, Person


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
