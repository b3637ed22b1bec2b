"""What staff do about billing: replay, resync, compare, give a plan, give money back; over HTTP and in the shell."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from infra.sandbox.stripe.server import StripeStandIn
from service.core import clock
from service.core.context import Resources
from service.core.ids import new_id
from service.core.settings import Settings
from service.features.billing.flows.resync import resync_customers
from service.guardrails.permissions import Role
from service.web.formats import NOTHING
from tests.features.billing.conftest import Subscribe
from tests.features.billing.staff_desk import HOME, act, intent_on, logged, message, page_of, row_of
from tests.support.client import Client
from tests.support.factories import Factory, Person
from tests.support.stripe import Subscriber


async def spoil(customer: Subscriber, plan: str = "business") -> None:
    """A bug wrote nonsense: another plan, and a subscription that Stripe never saw like this."""
    await customer.superuser.execute(
        "UPDATE billing_subscriptions SET status = 'past_due', cancel_at = now() WHERE organization_id = $1",
        customer.organization,
    )
    await customer.superuser.execute(
        "UPDATE entitlements SET plan = $2 WHERE organization_id = $1", customer.organization, plan
    )


async def mails(customer: Subscriber) -> list[str]:
    rows = await customer.superuser.fetch(
        "SELECT effect_key FROM billing_effects WHERE organization_id = $1", customer.organization
    )
    return sorted(row["effect_key"] for row in rows)


async def test_a_difference_is_shown_column_by_column_and_gone_after_a_resync(
    staff: Client, staff_person: Person, subscriber: Subscribe
) -> None:
    customer = await subscriber()
    subscription = customer.subscribe("team")
    await customer.settled()
    path = await page_of(customer)
    assert "No difference" in await staff.page(f"{path}/diff")
    await spoil(customer)
    text = await staff.page(f"{path}/diff")
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", text)
    assert [cells[n : n + 2] for n in range(0, len(cells), 4)] == [
        [subscription["id"], "status"],
        [subscription["id"], "cancel at"],
    ]
    assert cells[2:4] == ["past_due", "active"]
    done = await act(staff, path, act="resync", intent="x", reason="The copy looks wrong")
    assert done.headers["location"] == path
    assert "Read again just now" in await staff.page(path)
    assert "No difference" in await staff.page(f"{path}/diff")
    assert await customer.plan() == "team"
    line = await logged(customer.superuser, "billing.resync", staff_person)
    assert (line["reason"], line["organization_id"]) == ("The copy looks wrong", customer.organization)


async def test_an_object_that_only_one_side_has_is_a_difference(staff: Client, subscriber: Subscribe) -> None:
    customer = await subscriber()
    customer.subscribe("team")
    await customer.settled()
    await customer.superuser.execute("DELETE FROM billing_invoices WHERE organization_id = $1", customer.organization)
    await customer.superuser.execute(
        "UPDATE billing_ledger SET stripe_id = 'ch_invented' WHERE organization_id = $1", customer.organization
    )
    text = await staff.page(f"{await page_of(customer)}/diff")
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", text)
    found = {(cells[n][:3], cells[n + 1], cells[n + 2], cells[n + 3]) for n in range(0, len(cells), 4)}
    assert found == {
        ("in_", "object", NOTHING, "paid"),
        ("ch_", "object", NOTHING, "succeeded"),
        ("ch_", "object", "succeeded", NOTHING),
    }


async def test_stripe_that_is_away_is_a_sentence(
    staff: Client, connected: StripeStandIn, subscriber: Subscribe
) -> None:
    customer = await subscriber()
    await customer.settled()
    connected.knobs = connected.knobs.model_copy(update={"api_error_before": 1.0})
    text = await staff.page(f"{await page_of(customer)}/diff")
    assert "Stripe gave no answer" in text
    assert "Try again" in text


async def test_comparing_holds_no_connection_while_stripe_is_slow(
    staff: Client, connected: StripeStandIn, subscriber: Subscribe, settings: Settings
) -> None:
    customer = await subscriber()
    await customer.settled()
    path = f"{await page_of(customer)}/diff"
    connected.knobs = connected.knobs.model_copy(update={"api_latency_min": 60, "api_latency_max": 60})
    asked = [asyncio.create_task(staff.get(path)) for _ in range(settings.database_pool_size + 3)]
    await asyncio.sleep(0.5)
    assert (await staff.get(HOME)).status_code == 200
    assert not any(one.done() for one in asked), "the page waited for one of them"
    connected.knobs = type(connected.knobs)()
    assert {(await one).status_code for one in asked} == {200}


async def test_scenario_68_a_customer_that_always_fails_stops_nobody_and_is_tried_again_by_hand(
    staff: Client, staff_person: Person, connected: StripeStandIn, subscriber: Subscribe
) -> None:
    """A fault in reading one customer: given up after its attempts, shown with its error, replayed once mended."""
    poisoned, healthy = await subscriber(), await subscriber()
    await poisoned.settled()
    connected.knobs = connected.knobs.model_copy(update={"garbled": poisoned.customer})
    await poisoned.superuser.execute(
        "UPDATE billing_customers SET failures = 11 WHERE stripe_customer_id = $1", poisoned.customer
    )
    poisoned.subscribe("team")
    healthy.subscribe("team")
    await healthy.settled()
    assert await healthy.plan() == "team"
    async with asyncio.timeout(60):
        while (row := await poisoned.row())["dead_at"] is None:
            await asyncio.sleep(0.05)
    path = await page_of(poisoned)
    letters = "/staff/dead-letters/stripe-customers"
    text = await staff.page(f"{letters}?q={poisoned.customer}")
    assert path in text
    assert f"{path}/diff" in await staff.page(path)
    assert "IntegrityError" in text
    assert "Given up after 12 attempts: IntegrityError" in await staff.page(path)
    connected.knobs = type(connected.knobs)()
    assert (await act(staff, f"{letters}/replay", reason="The mapper is mended")).status_code == 303
    row = await poisoned.settled()
    assert (row["dead_at"], row["failures"]) == (None, 0)
    assert await poisoned.plan() == "team"
    assert path not in await staff.page(letters)
    assert (await logged(poisoned.superuser, "billing.resync_dead", staff_person))["reason"] == "The mapper is mended"


async def test_scenario_75_after_a_bug_everybody_is_read_again_and_converges(
    staff: Client, staff_person: Person, subscriber: Subscribe
) -> None:
    customers = [await subscriber() for _ in range(3)]
    for customer in customers:
        customer.subscribe("team")
    for customer in customers:
        await customer.settled()
        await spoil(customer)
    told = [await mails(customer) for customer in customers]
    done = await act(staff, HOME, reason="The mapper of last night")
    assert done.headers["location"] == HOME
    assert "customers are read again" in await staff.page(HOME)
    for customer in customers:
        await customer.settled(60)
        assert await customer.plan() == "team"
    assert [await mails(customer) for customer in customers] == told, "nobody is told twice"
    assert (await logged(customers[0].superuser, "billing.resync_all", staff_person))["organization_id"] is None


async def test_a_resync_of_everybody_makes_nobody_wait_who_has_news(
    resources: Resources, subscriber: Subscribe
) -> None:
    """Three hundred come before it in the line; a webhook of its own brings a customer to the front."""
    customer = await subscriber()
    await customer.settled()
    marked = await resync_customers(resources)
    assert marked >= 1
    await customer.superuser.execute(
        "UPDATE billing_customers SET dirty_gen = dirty_gen + 1, next_attempt_at = now() + interval '1 hour'"
        " WHERE stripe_customer_id = $1",
        customer.customer,
    )
    customer.subscribe("team")
    await customer.settled()
    assert await customer.plan() == "team"


@pytest.mark.parametrize("selection", ["one", "type", "customer", "range"])
async def test_scenario_76_a_replay_changes_the_state_back_and_repeats_no_effect(
    staff: Client, staff_person: Person, subscriber: Subscribe, superuser: asyncpg.Connection[Any], selection: str
) -> None:
    customer = await subscriber()
    subscription = customer.subscribe("team")
    customer.cancel(subscription)
    customer.subscribe("team")
    await customer.settled()
    told = await mails(customer)
    assert f"ended:{subscription['id']}" in told
    known = await superuser.fetchval(
        "SELECT min(id) FROM inbox WHERE subject = $1 AND type = 'customer.subscription.created'", customer.customer
    )
    kind = f"probe.{new_id().hex[-6:]}"
    if selection == "type":
        await superuser.execute("UPDATE inbox SET type = $2 WHERE id = $1", known, kind)
    before = await row_of(superuser, known)
    await spoil(customer)
    where = {
        "one": (f"{HOME}/inbox/{known}/replay", {}),
        "type": (f"{HOME}/inbox/replay", {"type": kind}),
        "customer": (f"{HOME}/inbox/replay", {"subject": customer.customer}),
        "range": (f"{HOME}/inbox/replay", {"since": f"{clock.now():%Y-%m-%d}", "subject": customer.customer}),
    }[selection]
    for _ in range(2):
        assert (await act(staff, where[0], **where[1], reason="Again, please")).status_code == 303
    row = await customer.settled()
    assert await customer.plan() == "team"
    assert await mails(customer) == told, "each fact had its effect already"
    again = await row_of(superuser, known)
    # Something else may have it read once more, so its own reading need not be the newest.
    assert again["state"] == "processed"
    assert before["applied_version"] < again["applied_version"] <= row["sync_version"]
    line = await logged(superuser, "billing.replay_one" if selection == "one" else "billing.replay", staff_person)
    assert line["reason"] == "Again, please"


async def test_what_belongs_to_nobody_is_looked_at_again_and_the_other_mode_never(
    staff: Client, superuser: asyncpg.Connection[Any]
) -> None:
    foreign = await message(superuser, state="ignored", reason="foreign", attempts=12, next_attempt_at=None)
    other = await message(superuser, state="ignored", reason="mode", realm="live")
    assert (await act(staff, f"{HOME}/inbox/{foreign}/replay")).status_code == 303
    assert (await row_of(superuser, foreign))["state"] == "unmatched"
    refused = await act(staff, f"{HOME}/inbox/{other}/replay")
    assert refused.status_code == 422
    assert "There is nothing to replay" in refused.text
    assert (await row_of(superuser, other))["reason"] == "mode"
    nothing = await act(staff, f"{HOME}/inbox/replay")
    assert nothing.status_code == 422
    assert "Choose what to replay" in nothing.text


async def test_a_plan_is_given_until_a_day_and_taken_back(
    staff: Client, staff_person: Person, subscriber: Subscribe
) -> None:
    customer = await subscriber()
    await customer.settled()
    path = await page_of(customer)
    day = f"{clock.now() + timedelta(days=30):%Y-%m-%d}"
    past = await act(staff, f"{path}/override", plan="business", ends_on="2026-01-01")
    assert past.status_code == 422
    assert "still to come" in past.text
    assert (await act(staff, f"{path}/override", plan="gold", ends_on=day)).status_code == 422
    given = await act(staff, f"{path}/override", plan="business", ends_on=day, reason="An apology for last week")
    assert given.headers["location"] == path
    await customer.settled()
    assert await customer.plan() == "business"
    assert "An apology for last week" in await staff.page(path)
    line = await logged(customer.superuser, "billing.override_plan", staff_person)
    assert (line["reason"], line["organization_id"]) == ("An apology for last week", customer.organization)
    assert (
        await act(staff, f"{path}/override", plan="free", ends_on=day, reason="It was a mistake")
    ).status_code == 303
    await customer.settled()
    assert await customer.plan() == "free"


async def test_scenario_82_a_refund_and_an_end_by_two_staff_take_turns_each_with_its_actor(
    staff: Client, staff_person: Person, factory: Factory, subscriber: Subscribe, connected: StripeStandIn
) -> None:
    customer = await subscriber()
    subscription = customer.subscribe("team")
    await customer.settled()
    path = await page_of(customer)
    charge = await customer.superuser.fetchval(
        "SELECT stripe_id FROM billing_ledger WHERE kind = 'charge' AND organization_id = $1", customer.organization
    )
    assert charge in await staff.page(path)
    colleague, owner = await factory.person(staff=True), await factory.person(Role.OWNER, customer.organization)
    async with (
        await factory.client(colleague, "password", "totp") as other,
        await factory.client(owner, "password") as buyer,
    ):
        refund = {"charge": charge, "amount": "500", "intent": await intent_on(staff, path), "reason": "Half a month"}
        ending = {"act": "cancel", "intent": await intent_on(other, path), "reason": "They asked on the phone"}
        connected.knobs = connected.knobs.model_copy(update={"api_latency_min": 1.0, "api_latency_max": 1.0})
        first = asyncio.create_task(act(staff, f"{path}/refund", **refund))
        while not await customer.superuser.fetchval(
            "SELECT count(*) FROM billing_operations WHERE organization_id = $1 AND status = 'in_flight'",
            customer.organization,
        ):
            assert not first.done(), "the refund was over before anybody could meet it"
            await asyncio.sleep(0.02)
        second = await act(other, path, **ending)
        assert second.status_code == 422
        assert "Another billing change is on its way" in second.text
        await act(buyer, "/billing/cancellation", intent=new_id().hex)
        count = "SELECT count(*) FROM billing_operations WHERE organization_id = $1"
        assert await customer.superuser.fetchval(count, customer.organization) == 1, "one change at a time"
        connected.knobs = type(connected.knobs)()
        assert (await first).status_code == 303
        assert (await act(other, path, **ending)).status_code == 303
        repeated = await act(staff, f"{path}/refund", **refund)
        assert repeated.status_code == 303, "the same click again is the same refund"
        kept = await act(staff, f"{path}/refund", **(refund | {"amount": "700"}))
        assert kept.status_code == 422, "a kept page with another amount would be told of the first refund"
        assert "This form was sent before, for something else." in kept.text
    await customer.settled()
    rows = await customer.superuser.fetch(
        "SELECT kind, status, actor, reason FROM billing_operations WHERE organization_id = $1 ORDER BY kind",
        customer.organization,
    )
    assert [tuple(row) for row in rows] == [
        ("cancel_now", "succeeded", f"staff:{colleague.id}", "They asked on the phone"),
        ("refund", "succeeded", f"staff:{staff_person.id}", "Half a month"),
    ]
    assert connected.account.store.get("charge", charge)["amount_refunded"] == 500
    assert connected.account.store.get("subscription", subscription["id"])["status"] == "canceled"
    assert await customer.plan() == "free"
    text = await staff.page(path)
    assert "They asked on the phone" in text
    assert "€5.00" in text


async def test_nobody_elses_charge_is_refunded(staff: Client, subscriber: Subscribe) -> None:
    customer, other = await subscriber(), await subscriber()
    other.subscribe("team")
    await other.settled()
    charge = await other.superuser.fetchval(
        "SELECT stripe_id FROM billing_ledger WHERE kind = 'charge' AND organization_id = $1", other.organization
    )
    path = await page_of(customer)
    answer = await act(staff, f"{path}/refund", charge=charge, amount="1200", intent=new_id().hex)
    assert answer.status_code == 422
    assert "This customer paid no such charge" in answer.text
    nothing = await act(staff, path, act="cancel", intent=new_id().hex)
    assert nothing.status_code == 422
    assert "There is no paid plan to change" in nothing.text
