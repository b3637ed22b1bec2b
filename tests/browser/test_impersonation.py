"""Support in a customer's account, as both sides see it in a browser."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from service.guardrails import sessions
from service.guardrails.permissions import Role
from tests.browser.conftest import OpenTab, assert_accessible, assert_fits
from tests.support.factories import Factory, Person
from tests.support.servers import RunningServer

pytestmark = [pytest.mark.browser, pytest.mark.slow]
REASON = "They wrote that Tuesday's numbers are missing."


async def tab_of(open_tab: OpenTab, factory: Factory, server: RunningServer, person: Person, **options: object) -> Page:
    token, _ = await factory.log_in(person, "password", "totp")
    page = await open_tab(**options)
    name = sessions.cookie_name(factory.resources.settings)
    await page.context.add_cookies([{"name": name, "value": token, "url": server.url}])
    return page


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
async def test_a_visit_is_seen_by_both_sides(
    open_tab: OpenTab, factory: Factory, server: RunningServer, *, scripts: bool
) -> None:
    customer, colleague = await factory.person(Role.OWNER), await factory.person(staff=True)
    assert customer.organization_id is not None
    await factory.indicator(customer.organization_id, "Their own numbers")
    phone = {"viewport": {"width": 390, "height": 780}}
    page = await tab_of(open_tab, factory, server, colleague, java_script_enabled=scripts, **phone)

    await page.goto(f"/staff/people/{customer.id}/impersonation")
    await page.get_by_label("Reason").fill("short")
    await page.get_by_role("button", name="Enter this account").click()
    await expect(page.get_by_text("at least 10 characters").first).to_be_visible()
    await page.get_by_label("Reason").fill(REASON)
    await page.get_by_role("button", name="Enter this account").click()
    await page.wait_for_url("**/dashboard")

    banner = page.get_by_role("region", name="Somebody else's account")
    for path in ("/dashboard", "/indicators", "/members", "/organization"):
        await page.goto(path)
        await expect(banner).to_contain_text("you are in the account of")
        await expect(banner.get_by_role("status")).to_contain_text(REASON)
        await expect(banner.get_by_role("button", name="Stop")).to_be_in_viewport()
    await page.goto("/indicators")
    await expect(page.get_by_text("Their own numbers").first).to_be_visible()
    if scripts:
        await assert_accessible(page)
    await assert_fits(page)

    await page.goto("/account")
    await page.get_by_label("Your name").fill("Mallory")
    await page.get_by_role("button", name="Save").first.click()
    await expect(page.get_by_role("heading", name="Not while you are in somebody's account")).to_be_visible()
    await expect(page.get_by_text("press Stop")).to_be_visible()
    await expect(banner).to_be_visible()

    await banner.get_by_role("button", name="Stop").click()
    await page.wait_for_url(re.compile("/staff$"))
    await expect(page.get_by_text("are yourself again")).to_be_visible()
    await expect(banner).to_have_count(0)

    theirs = await tab_of(open_tab, factory, server, customer)
    await theirs.goto("/audit-log")
    await expect(theirs.get_by_text("Our support, for").first).to_be_visible()
    await expect(theirs.get_by_text(REASON).first).to_be_visible()
    await theirs.goto("/organization")
    await theirs.get_by_role("link", name="Support access").click()
    await expect(theirs.get_by_text(REASON)).to_be_visible()
    await assert_accessible(theirs)
    await theirs.get_by_role("button", name="Keep support out").click()
    await expect(theirs.get_by_text("stays outside").first).to_be_visible()
