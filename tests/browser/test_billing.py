"""Buying in a real browser: pay, upgrade, be declined, recover, cancel, take it back; each page on the way is good.

At a desk with scripts, and on a phone without any: a shop that needs scripts to take money loses some of it.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Page, expect

from infra.sandbox.stripe.server import StripeStandIn
from tests.browser.conftest import OpenTab, assert_accessible, assert_fits
from tests.browser.test_story import DESK, PHONE
from tests.support.factories import Factory
from tests.support.servers import RunningServer, RunningWorker
from tests.support.stripe import listen

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WAYS = {"desk": DESK, "phone without scripts": {**PHONE, "java_script_enabled": False}}
TRIAL = 15 * 86_400


async def pay_with(page: Page, card: str, button: str) -> None:
    await page.get_by_label(re.compile(card)).check()
    await page.get_by_role("button", name=re.compile(button)).click()


@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
async def test_somebody_buys_a_plan_changes_it_and_leaves(
    options: dict[str, Any],
    signed_in: OpenTab,
    stripe: StripeStandIn,
    server: RunningServer,
    worker: RunningWorker,
    factory: Factory,
) -> None:
    listen(stripe, server.url)
    scripts = options.get("java_script_enabled", True)
    page = await signed_in(**options)
    mine = "DELETE FROM entitlements WHERE organization_id = $1"
    await factory.superuser.execute(mine, page.organization)  # type: ignore[attr-defined]

    async def assert_good() -> None:
        await assert_fits(page)
        if scripts:  # axe is one
            await assert_accessible(page)

    async def is_shown(text: str) -> None:
        await expect(page.get_by_text(text).first).to_be_visible()

    async def plan_is(name: str) -> None:
        await expect(page.get_by_role("definition").first).to_have_text(name)

    async def until_gone(text: str) -> None:
        """What Stripe tells us by itself needs no click, only the page anew."""
        for _ in range(240):
            await page.goto("/billing")
            if not await page.get_by_text(text).count():
                return
            await page.wait_for_timeout(250)
        await expect(page.get_by_text(text)).to_have_count(0)

    await page.goto("/billing")
    await plan_is("Free")
    await assert_good()

    await page.get_by_role("button", name="Choose Team").click()
    await page.wait_for_url("**/checkout/**")
    await page.get_by_role("link", name="Back").click()
    await plan_is("Free")
    await page.get_by_role("button", name="Choose Team").click()
    await page.wait_for_url("**/checkout/**")
    await pay_with(page, "4242", "Start")
    await page.wait_for_url("**/billing")
    await is_shown("Thank you. Your plan is ready.")
    await plan_is("Team")
    await is_shown("Your free trial ends on")
    await assert_good()

    stripe.account.clock.advance(TRIAL)
    await until_gone("Your free trial ends on")
    await page.get_by_role("button", name="Card and address").click()
    await page.wait_for_url("**/portal/**")
    await pay_with(page, "0341", "Use this card")
    await page.get_by_role("link", name="Return").click()
    await page.wait_for_url("**/billing")

    await page.get_by_role("link", name="Upgrade to Business").click()
    await is_shown("To pay now")
    await assert_good()
    await page.get_by_role("button", name="Switch to Business").click()
    await expect(page.get_by_role("heading", name="The payment was declined")).to_be_visible()
    await assert_good()
    await page.get_by_role("link", name="Go to your plan").click()
    await plan_is("Team")
    await is_shown("The change to Business waits for its payment")
    await assert_good()
    await page.get_by_role("link", name=re.compile("Pay €17.00 now")).click()
    await pay_with(page, "3184", "Pay")
    await page.get_by_role("button", name="Yes, pay").click()
    await until_gone("waits for its payment")
    await plan_is("Business")

    await page.get_by_role("button", name="Cancel the plan").click()
    if scripts:
        await page.get_by_role("dialog").get_by_role("button", name="Cancel the plan").click()
    await is_shown("Your plan ends on")
    await plan_is("Business")
    await assert_good()
    await page.get_by_role("button", name="Keep the plan").click()
    await is_shown("Your plan goes on as before.")
    await expect(page.get_by_text("Your plan ends on")).to_have_count(0)

    await page.get_by_role("link", name="All invoices").click()
    await expect(page.get_by_text("€17.00").first).to_be_visible()
    await assert_good()
    await page.get_by_role("link", name="View").first.click()
    await expect(page.get_by_text("Paid. Nothing is left to do.")).to_be_visible()


async def test_the_prices_are_for_everybody(open_tab: OpenTab) -> None:
    page = await open_tab(**PHONE)
    await page.goto("/pricing")
    await assert_fits(page)
    await assert_accessible(page)
    await page.get_by_role("link", name="Start with Team").click()
    await expect(page).to_have_url(re.compile("/sign-up$"))
