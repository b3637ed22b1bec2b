"""The messages from Stripe as staff see them: found, read for a reason, discarded, tied to an organization."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import asyncpg

from infra.sandbox.stripe.server import StripeStandIn
from service.core import clock
from service.core.ids import new_id
from tests.features.billing.conftest import Subscribe
from tests.features.billing.staff_desk import HOME, act, logged, message, page_of, row_of
from tests.support.client import Client
from tests.support.factories import Factory, Person


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
