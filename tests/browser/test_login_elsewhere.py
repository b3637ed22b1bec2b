"""Out to the identity provider and back in a real browser: the content policy also governs redirects after a form."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest
from playwright.async_api import Page, expect

from infra.sandbox.oidc import OIDCProvider
from service.core import clock
from service.features.accounts.models.totp import code_at
from tests.browser.conftest import OpenTab, assert_accessible

pytestmark = [pytest.mark.browser, pytest.mark.slow]


async def go_there(page: Page, email: str) -> None:
    await page.goto("/login")
    await page.get_by_role("button", name="Continue with Demo ID").click()
    await page.get_by_label("E-mail address").fill(email)
    await page.get_by_role("button", name="Continue", exact=True).click()


async def test_there_and_back_without_a_click_in_between(open_tab: OpenTab, oidc: OIDCProvider) -> None:
    page = await open_tab()
    await go_there(page, f"ada-{uuid4().hex[:8]}@example.com")
    await expect(page).to_have_url(re.compile("/organizations/new"))


async def test_without_scripts_one_click_more(open_tab: OpenTab, oidc: OIDCProvider) -> None:
    page = await open_tab(java_script_enabled=False)
    await go_there(page, f"ada-{uuid4().hex[:8]}@example.com")
    await expect(page).to_have_url(re.compile("/login/provider/return"))
    await page.get_by_role("button", name="Continue").click()
    await expect(page).to_have_url(re.compile("/organizations/new"))


async def test_setting_up_codes(open_tab: OpenTab, oidc: OIDCProvider) -> None:
    """The picture of the secret is drawn, the key can be read, the recovery codes are shown."""
    page = await open_tab(viewport={"width": 390, "height": 844})
    await go_there(page, f"ada-{uuid4().hex[:8]}@example.com")
    await expect(page).to_have_url(re.compile("/organizations/new"))
    await page.goto("/account/security")
    await assert_accessible(page)
    await page.get_by_role("button", name="Turn on").click()
    picture = page.get_by_alt_text("QR code for your authenticator app")
    assert await picture.evaluate("image => image.complete && image.naturalWidth > 50")
    await assert_accessible(page)
    secret = (await page.locator("#totp-key").inner_text()).replace(" ", "").encode()
    await page.get_by_label("Code", exact=True).fill(code_at(secret, clock.now()))
    await page.get_by_role("button", name="Turn on").click()
    codes = (await page.locator("#recovery-codes").inner_text()).split()
    assert len(codes) == 10
    await assert_accessible(page)
