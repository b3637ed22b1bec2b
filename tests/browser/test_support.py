"""Staff help a customer, in a real browser: find the account, say why, see who it is, log them out."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from service.guardrails.permissions import Role
from tests.browser.conftest import OpenTab, assert_accessible, assert_fits
from tests.browser.test_story import PHONE
from tests.support.factories import Factory

pytestmark = [pytest.mark.browser, pytest.mark.slow]


async def test_staff_help_a_customer(signed_in: OpenTab, factory: Factory) -> None:
    customer = await factory.person(Role.OWNER)
    page = await signed_in(staff=True, **PHONE)
    await page.goto("/staff/people")
    await page.get_by_label("Find a person").fill(str(customer.id))
    await page.get_by_role("button", name="Find").click()
    await assert_accessible(page)
    await assert_fits(page)
    await page.get_by_role("link", name=str(customer.id)).click()
    await expect(page.get_by_text(customer.email)).to_have_count(0)
    await page.get_by_role("link", name="Say why").click()
    await page.get_by_label("Reason").fill("Ticket 4711: cannot log in")
    await assert_accessible(page)
    await page.get_by_role("button", name="Show personal data").click()
    await expect(page.get_by_text(customer.email).first).to_be_visible()
    await assert_accessible(page)
    await assert_fits(page)
    await page.get_by_role("link", name="End all sessions").click()
    await page.get_by_label("Reason").fill("Ticket 4711: a lost phone")
    await assert_accessible(page)
    await page.get_by_role("button", name="End all sessions").click()
    await expect(page.get_by_text("They are logged out everywhere.")).to_be_visible()

    # The trail: both acts, done by whom to whom; how they explained themselves is personal, and stays hidden here.
    helper = await factory.superuser.fetchval(
        "SELECT user_id FROM memberships WHERE organization_id = $1",
        page.organization,  # type: ignore[attr-defined]
    )
    await page.goto(f"/staff/events?object_id={customer.id}")
    for act in ("accounts.end_sessions_of", "staff.read_personal"):
        line = page.get_by_role("row").filter(has=page.get_by_text(act, exact=True)).first
        for told in ("done", str(helper), str(customer.id)):
            await expect(line.get_by_text(told, exact=True)).to_be_visible()
    await expect(page.get_by_text("Ticket 4711")).to_have_count(0)
    await assert_accessible(page)
    await assert_fits(page)
