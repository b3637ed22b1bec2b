"""Another plan, the end of a plan, and taking that back: over HTTP, with Stripe willing, refusing, silent and away."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from infra.sandbox.stripe import invoices, portal
from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.server import StripeStandIn
from service.guardrails.permissions import Role
from tests.features.billing.buyer import Buyer
from tests.features.billing.conftest import MakeBuyer, Subscribe
from tests.support.factories import Factory
from tests.support.servers import RunningWorker
from tests.support.stripe import CHALLENGED, DECLINED, GOOD

CHANGES = "SELECT count(*) FROM billing_operations WHERE kind = 'change_plan' AND organization_id = $1"


@pytest.fixture
def paying(buyer: MakeBuyer, subscriber: Subscribe) -> MakeBuyer:
    """Makes a buyer whose organization pays for the Team plan, with the card named."""

    async def make(card: str = GOOD) -> Buyer:
        ada = await buyer()
        customer = await subscriber(organization=ada.person.organization_id)
        customer.subscribe("team")
        await customer.settled()
        customer.use_card(card)
        await customer.settled()
        ada.customer = customer
        return ada

    return make


async def test_an_upgrade_shows_its_price_first_and_is_there_at_once(paying: MakeBuyer) -> None:
    ada = await paying()
    shown = await ada.shown("/billing/change?plan=business")
    assert "Switch to Business" in shown
    assert "To pay now €17.00" in shown
    assert "From then on, per month €29.00" in shown
    assert "Unused time" in shown
    answer = await ada.change("business")
    assert answer.status_code == 303
    text = await ada.shown(answer.headers["location"])
    assert "You are on the Business plan now." in text
    assert "Price €29.00 per month" in text
    assert ada.subscriptions()[0]["items"]["data"][0]["price"]["unit_amount"] == 2900


async def test_what_was_shown_is_what_is_charged(paying: MakeBuyer, stripe: StripeStandIn) -> None:
    """The moment that the preview was made for travels with the form, however long somebody thinks about it."""
    ada = await paying()
    await ada.change("business")
    newest = stripe.account.store.of("invoice", customer=ada.subscriptions()[0]["customer"])[0]
    [request] = await ada.superuser.fetch(
        "SELECT params, wish FROM billing_operations WHERE kind = 'change_plan' AND organization_id = $1",
        ada.person.organization_id,
    )
    assert newest["total"] == 1700
    assert "proration_date" in request["params"]


async def test_the_preview_counts_the_people_there_are_now(paying: MakeBuyer, factory: Factory) -> None:
    ada = await paying()
    for _ in range(2):
        await factory.person(Role.VIEWER, ada.person.organization_id)
    shown = await ada.shown("/billing/change?plan=business")
    assert "From then on, per month €87.00" in shown
    assert "People 3" in shown


async def test_what_an_ended_plan_left_open_is_no_alarm(paying: MakeBuyer) -> None:
    """The upgrade was never made, so nobody owes it; the invoice stands in the list."""
    ada = await paying(DECLINED)
    await ada.change("business")
    assert ada.customer is not None
    ada.customer.cancel(ada.subscriptions()[0])
    await ada.customer.settled()
    text = await ada.shown()
    assert "Plan Free" in text
    assert "did not go through" not in text
    assert "Latest invoices" in text


async def test_scenario_40_a_declined_upgrade_leaves_the_old_plan_and_shows_the_way_out(
    paying: MakeBuyer, stripe: StripeStandIn
) -> None:
    ada = await paying(DECLINED)
    answer = await ada.change("business")
    page = await ada.client.get(answer.headers["location"])
    assert "The payment was declined" in page.text
    assert "You keep Team, and nothing was charged." in page.text
    invoice = stripe.account.store.of("invoice", customer=ada.subscriptions()[0]["customer"])[0]
    assert f'href="{invoice["hosted_invoice_url"]}"' in page.text
    assert "Change the card" in page.text
    plan = await ada.shown()
    assert "Plan Team" in plan
    assert "The change to Business waits for its payment" in plan
    with stripe.account.lock:
        invoices.pay(stripe.account, invoice["id"], GOOD)
    await ada.until("Plan Business", without="waits for its payment")
    assert (await ada.client.get(answer.headers["location"])).headers["location"] == "/billing"


async def test_scenario_39_a_bank_that_asks_is_one_more_step(paying: MakeBuyer, stripe: StripeStandIn) -> None:
    ada = await paying(CHALLENGED)
    answer = await ada.change("business")
    page = await ada.client.get(answer.headers["location"])
    assert "One more step: confirm the payment" in page.text
    assert "with your bank" in page.text
    assert page.headers["refresh"] == "4"
    await ada.superuser.execute(
        "UPDATE billing_operations SET created_at = now() - interval '11 minutes' WHERE organization_id = $1",
        ada.person.organization_id,
    )
    later = await ada.client.get(answer.headers["location"])
    assert "refresh" not in later.headers, "a tab that is left open would keep its session alive"
    assert "Plan Team" in await ada.shown()


async def test_scenario_39_a_renewal_that_the_bank_asks_about_says_so(paying: MakeBuyer, stripe: StripeStandIn) -> None:
    ada = await paying(CHALLENGED)
    with stripe.account.lock:
        stripe.account.clock.advance(31 * 86_400 + 7_200)
    assert ada.customer
    await ada.customer.settled()
    text = await ada.shown()
    assert "Your bank wants you to confirm a payment." in text
    assert "Plan Team" in text
    assert "Confirm €12.00 with your bank" in text
    assert "The last payment did not go through. Everything works until" in text


async def test_scenario_41_ten_clicks_at_once_are_one_change(paying: MakeBuyer, stripe: StripeStandIn) -> None:
    ada = await paying()
    clicks = [ada.change("business", intent=uuid4().hex) for _ in range(10)]
    answers = await asyncio.gather(*clicks)
    assert {answer.status_code for answer in answers} == {303}
    assert ada.charged() == [1200, 1700]
    assert len(stripe.account.store.of("invoice", customer=ada.subscriptions()[0]["customer"])) == 2


async def test_scenario_41_the_same_form_sent_twice_is_one_change(paying: MakeBuyer) -> None:
    ada, intent = await paying(), uuid4().hex
    await asyncio.gather(*(ada.change("business", intent=intent) for _ in range(2)))
    assert await ada.count(CHANGES, ada.person.organization_id) == 1
    assert ada.charged() == [1200, 1700]


async def test_scenario_53_a_cancelled_plan_says_when_it_ends(paying: MakeBuyer, stripe: StripeStandIn) -> None:
    ada = await paying()
    answer = await ada.send("cancellation")
    text = await ada.shown(answer.headers["location"])
    assert "Cancelled. You keep the plan for what is paid" in text
    assert "Your plan ends on" in text
    assert "Cancel the plan" not in text
    again = await ada.send("cancellation")
    assert "cancelled already" in await ada.shown(again.headers["location"])


@pytest.mark.parametrize("where", ["here", "portal"])
async def test_scenario_54_a_cancellation_is_taken_back(where: str, paying: MakeBuyer, stripe: StripeStandIn) -> None:
    ada = await paying()
    if where == "here":
        await ada.send("cancellation")
    else:
        with stripe.account.lock:
            portal.cancel(stripe.account, ada.subscriptions()[0]["id"])
        await ada.until("Your plan ends on")
    answer = await ada.send("resumption")
    text = await ada.shown(answer.headers["location"])
    assert "Your plan goes on as before." in text
    assert "ends on" not in text
    held = ada.subscriptions()[0]
    assert (held["cancel_at"], held["cancel_at_period_end"]) == (None, False)


async def test_scenario_55_over_the_limit_nothing_is_deleted_and_nothing_new(
    buyer: MakeBuyer, factory: Factory
) -> None:
    ada = await buyer()
    assert ada.person.organization_id is not None
    await factory.plan(ada.person.organization_id)
    for _ in range(34):
        await factory.indicator(ada.person.organization_id)
    for _ in range(4):
        await factory.person(Role.VIEWER, ada.person.organization_id)
    assert "Nothing was deleted" not in await ada.shown()
    await factory.plan(ada.person.organization_id, "free")
    text = await ada.shown()
    assert "You have 34 indicators; Free includes 20. Nothing was deleted; you cannot add more." in text
    assert "You have 5 people and invitations; Free includes 3." in text
    assert "34 of 20" in text
    refused = await ada.client.submit("/indicators/new", name="One more")
    assert refused.status_code in (403, 422)
    rows = "SELECT count(*) FROM indicators WHERE organization_id = $1"
    assert await ada.count(rows, ada.person.organization_id) == 34


async def test_a_form_that_was_sent_for_one_thing_is_not_taken_for_another(paying: MakeBuyer) -> None:
    ada, intent = await paying(), uuid4().hex
    await ada.send("portal", intent=intent)
    answer = await ada.send("cancellation", intent=intent)
    assert "This form was sent before, for something else." in await ada.shown(answer.headers["location"])
    assert "Ends on" not in await ada.shown()


async def test_scenario_55_a_smaller_plan_warns_before_it_is_chosen(paying: MakeBuyer, factory: Factory) -> None:
    ada = await paying()
    await ada.change("business")
    for _ in range(101):
        await factory.indicator(ada.person.organization_id)  # type: ignore[arg-type]
    shown = await ada.shown("/billing/change?plan=team")
    assert "You have 101 indicators; Team includes 100." in shown
    assert "To pay now €0.00" in shown
    assert "kept as a credit" in shown


async def test_scenario_81_the_seventh_change_within_an_hour_is_refused_with_a_reason(paying: MakeBuyer) -> None:
    ada = await paying()
    plans = ["business", "team"] * 3
    for plan in plans:
        answer = await ada.change(plan)
        assert answer.status_code == 303, answer.text
    answer = await ada.change("business")
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    assert "The plan was changed six times within an hour" in answer.text
    assert 'href="/billing"' in answer.text
    assert "Plan Team" in await ada.shown()
    assert await ada.count(CHANGES, ada.person.organization_id) == 6


async def test_scenario_43_an_answer_that_never_came_is_found_out_in_front_of_the_person(
    paying: MakeBuyer, stripe: StripeStandIn, worker: RunningWorker
) -> None:
    ada = await paying()
    path = "/billing/change?plan=business"
    form = await ada.client.page(path)
    assert "Switch to Business" in form
    stripe.knobs = StripeKnobs(api_error_after=1)
    answer = await ada.send("change", page="/billing", plan="business", proration_date=ada.now())
    waiting = await ada.client.get(answer.headers["location"])
    assert "Stripe has not answered" in waiting.text
    assert waiting.headers["refresh"] == "4"
    assert "A change of your plan is on its way." in await ada.shown()
    second = await ada.send("cancellation")
    assert "Another billing change is on its way." in await ada.shown(second.headers["location"])
    stripe.knobs = StripeKnobs()
    await ada.until("Plan Business", seconds=30)
    assert ada.charged() == [1200, 1700]


async def test_scenario_73_while_stripe_is_away_reading_works_and_changes_are_refused_kindly(
    paying: MakeBuyer, stripe: StripeStandIn
) -> None:
    ada = await paying()
    stripe.knobs = StripeKnobs(api_error_before=1)
    for _ in range(5):
        back = await ada.client.get("/billing/change?plan=business")
        assert back.headers["location"] == "/billing"
    text = await ada.shown()
    assert "Billing changes are paused: Stripe does not answer. Everything else works." in text
    assert "Plan Team" in text
    answer = await ada.send("cancellation", page="/account")
    assert answer.headers["location"] == "/billing"
    assert (
        await ada.count(
            "SELECT count(*) FROM billing_operations WHERE organization_id = $1", ada.person.organization_id
        )
        == 0
    )
    stripe.knobs = StripeKnobs()
    await ada.until("Cancel the plan", without="Billing changes are paused")


async def test_every_refusal_is_a_sentence(paying: MakeBuyer, stripe: StripeStandIn) -> None:
    ada = await paying()
    for fields in ({"plan": "free"}, {"plan": "gold"}, {"plan": "team"}):
        answer = await ada.send("change", **fields, proration_date=ada.now())
        assert answer.headers["location"] == "/billing", fields
    for fields in ({"plan": "business", "intent": ""}, {"plan": "x" * 100}, {"plan": "team", "proration_date": "soon"}):
        answer = await ada.send("change", **fields)
        assert answer.status_code == 400, fields
        assert "The form is out of date." in answer.text
    assert "Plan Team" in await ada.shown()


async def test_invoices_stand_newest_first_and_open_stripes_pages(paying: MakeBuyer, stripe: StripeStandIn) -> None:
    ada = await paying()
    await ada.change("business")
    page = await ada.client.page("/billing/invoices")
    assert page.index("€17.00") < page.index("€12.00")
    for invoice in stripe.account.store.of("invoice", customer=ada.subscriptions()[0]["customer"]):
        assert f'href="{invoice["hosted_invoice_url"]}"' in page
        assert f'href="{invoice["invoice_pdf"]}"' in page
    first = await ada.shown("/billing/invoices?limit=1")
    assert "Older" in first
    assert "€12.00" not in first


@pytest.mark.parametrize("address", ["javascript:alert(1)", "http://evil.example/in_1", "//evil.example", "data:,x"])
async def test_an_invoice_opens_no_other_place(address: str, paying: MakeBuyer) -> None:
    ada = await paying()
    await ada.superuser.execute(
        "UPDATE billing_invoices SET hosted_url = $2, pdf_url = $2 WHERE organization_id = $1",
        ada.person.organization_id, address,
    )  # fmt: skip
    for path in ("/billing", "/billing/invoices"):
        page = await ada.client.page(path)
        assert "€12.00" in page
        assert address not in page
