"""From the plan page to Stripe's Checkout and back: who paid sees the plan, who did not sees none."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.server import StripeStandIn
from service.core.settings import Settings
from service.guardrails.permissions import Role
from tests.features.billing.conftest import MakeBuyer
from tests.support.servers import RunningWorker
from tests.support.stripe import CHALLENGED


async def test_scenario_34_the_plan_is_right_before_any_webhook(buyer: MakeBuyer, stripe: StripeStandIn) -> None:
    stripe.knobs = StripeKnobs(drop=1)
    ada = await buyer()
    session = await ada.choose("business")
    ada.pay(session)
    answer = await ada.client.get(f"/billing/success?session_id={session}")
    assert answer.headers["location"] == "/billing"
    text = await ada.shown()
    assert "Your plan is ready." in text
    assert "Price €29.00 per month" in text
    assert "Free" not in text.split("What you use")[0]


async def test_scenario_34_a_page_that_is_not_sure_yet_says_so_and_asks_again(
    buyer: MakeBuyer, stripe: StripeStandIn
) -> None:
    ada = await buyer()
    session = await ada.choose("business")
    ada.pay(session)
    stripe.knobs = StripeKnobs(api_error_before=1)
    answer = await ada.client.get(f"/billing/success?session_id={session}")
    assert answer.status_code == 200
    assert "being confirmed" in answer.text
    assert answer.headers["refresh"] == f"5; url=/billing/success?session_id={session}&tries=1"
    assert "no need to pay again" in answer.text
    last = await ada.client.get(f"/billing/success?session_id={session}&tries=24")
    assert "refresh" not in last.headers
    stripe.knobs = StripeKnobs()


async def test_scenario_44_one_500_on_the_way_to_the_checkout_stops_no_later_purchase(
    buyer: MakeBuyer, stripe: StripeStandIn
) -> None:
    """Closing the earlier page was answered with a 500, which Stripe keeps under its key for a day, as it does all."""
    ada = await buyer()
    await ada.choose("team")
    stripe.knobs = StripeKnobs(api_error_after=1)
    answer = await ada.send("checkout", plan="team")
    assert answer.headers["location"] == "/billing", "nothing was sent, so there is nothing to find out about"
    stripe.knobs = StripeKnobs()
    ada.pay(await ada.choose("business"))


async def test_scenario_35_whoever_closes_the_tab_has_the_plan_all_the_same(
    buyer: MakeBuyer, worker: RunningWorker
) -> None:
    ada = await buyer()
    ada.pay(await ada.choose("business"))
    await ada.until("Price €29.00 per month")


async def test_whoever_has_paid_and_is_not_known_yet_cannot_pay_a_second_time(
    buyer: MakeBuyer, stripe: StripeStandIn
) -> None:
    """The tab was closed after the payment and every message was lost: the plan page still offered the plan."""
    stripe.knobs = StripeKnobs(drop=1)
    ada = await buyer()
    ada.pay(await ada.choose("team"))
    assert "Plan Free" in await ada.shown()
    again = await ada.send("checkout", plan="business")
    assert again.headers["location"] == "/billing"
    text = await ada.shown()
    assert "You already have a paid plan" in text
    assert "Plan Team" in text
    assert len(ada.subscriptions()) == 1


async def test_scenario_33_somebody_elses_session_gives_nothing(buyer: MakeBuyer) -> None:
    ada, eve = await buyer(), await buyer()
    session = await ada.choose("business")
    ada.pay(session)
    await eve.client.page(f"/billing/success?session_id={session}")
    text = await eve.shown()
    assert "Plan Free" in text
    assert eve.subscriptions() == []
    answer = await eve.client.get(f"/billing/success?session_id={session}", follow_redirects=True)
    assert "belongs to another organization" in answer.text


@pytest.mark.parametrize("session", ["cs_test_nobodys", "../../v1/customers", "cs_1/../../x", "%00", "x" * 3000])
async def test_scenario_33_an_invented_session_gives_nothing(session: str, buyer: MakeBuyer) -> None:
    eve = await buyer()
    answer = await eve.client.get("/billing/success", params={"session_id": session}, follow_redirects=True)
    assert answer.status_code == 200
    assert "Plan Free" in await eve.shown()


async def test_the_success_page_without_a_session_is_the_plan_page(buyer: MakeBuyer) -> None:
    ada = await buyer()
    answer = await ada.client.get("/billing/success")
    assert (answer.status_code, answer.headers["location"]) == (303, "/billing")


async def test_scenario_36_a_second_checkout_closes_the_first(buyer: MakeBuyer, stripe: StripeStandIn) -> None:
    ada = await buyer()
    first = await ada.choose("team")
    second = await ada.choose("business")
    assert stripe.account.store.get("checkout.session", first)["status"] == "expired"
    ada.pay(second)
    await ada.client.page(f"/billing/success?session_id={second}")
    again = await ada.send("checkout", plan="team")
    assert again.headers["location"] == "/billing"
    assert "already have a paid plan" in await ada.shown()
    assert len(ada.subscriptions()) == 1


async def test_the_same_form_sent_twice_is_one_checkout(buyer: MakeBuyer) -> None:
    ada, intent = await buyer(), uuid4().hex
    sent = [ada.send("checkout", plan="team", intent=intent) for _ in range(2)]
    answers = await asyncio.gather(*sent)
    sessions = {ada.session_of(answer) for answer in answers if answer.headers["location"].startswith("http")}
    assert len(sessions) == 1
    count = "SELECT count(*) FROM billing_operations WHERE intent = $1"
    assert await ada.count(count, intent) == 1


async def test_a_bank_that_asks_is_answered_on_stripes_page(buyer: MakeBuyer) -> None:
    ada = await buyer()
    session = await ada.choose("business")
    ada.pay(session, CHALLENGED)
    text = await ada.shown(f"/billing/success?session_id={session}")
    assert "being confirmed" in text
    ada.confirm(session)
    assert "Price €29.00 per month" in await ada.shown(f"/billing/success?session_id={session}")


async def test_scenario_66_what_is_changed_in_the_portal_shows_on_the_way_back(
    buyer: MakeBuyer, stripe: StripeStandIn
) -> None:
    from infra.sandbox.stripe import portal

    stripe.knobs = StripeKnobs(drop=1)
    ada = await buyer()
    subscription = await ada.buy("business")
    answer = await ada.send("portal")
    assert answer.headers["location"].startswith(f"{stripe.address}/portal/")
    with stripe.account.lock:
        portal.cancel(stripe.account, subscription["id"])
    back = await ada.client.get("/billing/return")
    assert back.headers["location"] == "/billing"
    assert "Your plan ends on" in await ada.shown()


async def test_only_stripes_pages_are_gone_to(buyer: MakeBuyer, stripe: StripeStandIn, settings: Settings) -> None:
    ada = await buyer()
    page = await ada.client.get("/billing")
    assert f"form-action 'self' {settings.oidc_issuer} {stripe.address};" in page.headers["content-security-policy"]
    other = await ada.client.get("/billing/invoices")
    assert stripe.address not in other.headers["content-security-policy"]


@pytest.mark.parametrize("role", [Role.VIEWER, Role.MEMBER])
async def test_who_may_not_pay_sees_the_plan_and_no_button(role: Role, buyer: MakeBuyer) -> None:
    bob = await buyer(role)
    text = await bob.shown()
    assert "Plan Free" in text
    assert "Owners and admins of your organization can change the plan." in text
    assert "Choose" not in text
    for verb in ("checkout", "portal", "change", "cancellation", "resumption"):
        answer = await bob.send(verb, page="/account", plan="team", proration_date=1)
        assert answer.status_code == 403, verb
    for path in ("/billing/invoices", "/billing/change?plan=team", f"/billing/operations/{uuid4()}"):
        assert (await bob.client.get(path)).status_code == 403, path
