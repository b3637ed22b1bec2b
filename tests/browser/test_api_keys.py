"""Somebody makes a key for a program, copies it, gives it a new secret, and ends it."""

from __future__ import annotations

import re

from playwright.async_api import expect

from service.guardrails.api_keys import parse
from tests.browser.conftest import OpenTab, assert_accessible, assert_fits

PHONE = {"width": 375, "height": 667}


async def test_a_key_from_the_menu_to_its_end(signed_in: OpenTab) -> None:
    page = await signed_in(viewport=PHONE, permissions=["clipboard-read", "clipboard-write"])
    await page.goto("/organization")
    await page.locator("header.bar summary").click()
    await page.locator("header.bar").get_by_role("link", name="API keys").click()
    await expect(page.get_by_text("No keys yet")).to_be_visible()
    await page.locator("main").get_by_role("link", name="New key").first.click()
    await assert_accessible(page)
    await assert_fits(page)
    await page.get_by_label("Name").fill("Nightly import")
    await page.get_by_label("Read indicators").check()
    await page.get_by_role("button", name="Make the key").click()
    await assert_accessible(page)
    await assert_fits(page)
    secret = await page.locator("#secret").inner_text()
    assert parse(secret) is not None
    await page.get_by_role("button", name="Copy").click()
    assert await page.evaluate("navigator.clipboard.readText()") == secret
    await page.get_by_role("link", name="I have it").click()
    await page.get_by_role("link", name="New secret for Nightly import").click()
    await assert_accessible(page)
    await page.get_by_role("button", name="Make a new secret").click()
    await expect(page.get_by_text("The old secret works for another 24 hours.")).to_be_visible()
    await page.get_by_role("link", name="I have it").click()
    await assert_accessible(page)
    await assert_fits(page)
    await page.get_by_role("button", name="Revoke").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text(re.compile("refused at once"))
    await dialog.get_by_role("button", name="Revoke").click()
    await expect(page.get_by_text("is revoked: whoever uses it is refused")).to_be_visible()
