"""The same story as tests/journeys, by two people with a browser, at a desk and on a phone.

Every page on the way is checked with axe, and must fit the screen.
"""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

import pytest
from playwright.async_api import Page, expect

from infra.sandbox.mail import MailSink
from tests.browser.conftest import SCREEN, OpenTab, assert_accessible, assert_fits
from tests.features.accounts.conftest import Post
from tests.support.servers import RunningWorker

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PASSWORD = "seven paper lanterns in the wind"
DESK = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


async def assert_good(page: Page) -> None:
    """For everybody at the desk, and on this screen."""
    assert page.viewport_size
    await assert_accessible(page, *(SCREEN if page.viewport_size["width"] < 400 else ()))
    await assert_fits(page)


async def sign_up(page: Page, name: str, email: str, post: Post) -> None:
    await page.goto("/sign-up")
    await assert_good(page)
    await page.get_by_label("Your name").fill(name)
    await page.get_by_label("E-mail address").fill(email)
    await page.get_by_label("Password", exact=True).fill(PASSWORD)
    await page.get_by_role("button", name="Create account").click()
    await expect(page).to_have_url(ending("/sign-up/sent"))
    await page.goto(await post.link(email, "verify"))
    await assert_good(page)
    await page.get_by_label("Password", exact=True).fill(PASSWORD)
    await page.get_by_role("button", name="Confirm and log in").click()


def ending(suffix: str) -> re.Pattern[str]:
    return re.compile(f"{re.escape(suffix)}$")


@pytest.mark.parametrize("screen", [DESK, PHONE], ids=["desk", "phone"])
async def test_two_people_share_an_indicator(
    screen: dict[str, Any], open_tab: OpenTab, worker: RunningWorker, mailbox: MailSink
) -> None:
    post, mark = Post(mailbox), uuid4().hex[:8]
    ada, bob = await open_tab(**screen), await open_tab(**screen)
    bobs = f"bob-{mark}@example.com"

    await sign_up(ada, "Ada", f"ada-{mark}@example.com", post)
    await ada.goto("/dashboard")
    await assert_good(ada)
    await ada.get_by_label("Name").fill("Analytical Engines")
    await ada.get_by_role("button", name="Create organization").click()
    await ada.goto("/dashboard")
    await expect(ada.get_by_text("No indicators yet")).to_be_visible()
    await assert_good(ada)

    await ada.goto("/members/invitations")
    await assert_good(ada)
    await ada.get_by_label("E-mail address").fill(bobs)
    await ada.get_by_label("Role").select_option("member")
    await ada.get_by_role("button", name="Send invitation").click()
    await expect(ada.get_by_text(bobs).first).to_be_visible()
    invitation = await post.link(bobs, "invitations")
    await bob.goto(invitation)
    await assert_good(bob)
    await sign_up(bob, "Bob", bobs, post)
    await bob.goto(invitation)
    await bob.get_by_role("link", name="Continue").click()
    await bob.get_by_role("button", name="Join").click()
    await ada.goto("/members")
    await assert_good(ada)
    await expect(ada.get_by_text("Bob").first).to_be_visible()

    await bob.goto("/indicators/new")
    await assert_good(bob)
    await bob.get_by_label("Name").fill("Punched cards")
    await bob.get_by_label("Unit").fill("cards")
    await bob.get_by_role("button", name="Create indicator").click()
    await bob.get_by_label("Time (UTC)").fill("2026-05-01T10:00")
    await bob.get_by_label("Value").fill("1234")
    await bob.get_by_role("button", name="Add reading").click()
    await expect(bob.get_by_text("Reading added.")).to_be_visible()
    await assert_good(bob)

    await ada.goto("/dashboard")
    await expect(ada.get_by_text("Punched cards")).to_be_visible()
    await assert_good(ada)
    await ada.get_by_role("link", name="Punched cards").click()
    await ada.get_by_role("link", name="Edit").click()
    await assert_good(ada)
    await ada.get_by_role("button", name="Delete indicator").click()
    await ada.get_by_role("dialog").get_by_role("button", name="Delete indicator").click()
    await expect(ada.get_by_role("heading", name="Bin")).to_be_visible()
    await assert_good(ada)
    await ada.get_by_role("button", name="Restore").click()
    await expect(ada.get_by_role("heading", name="Punched cards")).to_be_visible()
    await ada.goto("/audit-log")
    await assert_good(ada)

    await bob.goto("/account/deletion")
    await assert_good(bob)
    await bob.get_by_label("Your e-mail address").fill(bobs)
    await bob.get_by_role("button", name="Delete my account").click()
    await bob.goto(await post.link(bobs, "recover"))
    await bob.get_by_role("button", name="Bring it back").click()
    await bob.goto("/login")
    await bob.get_by_label("E-mail address").fill(bobs)
    await bob.get_by_label("Password", exact=True).fill(PASSWORD)
    await bob.get_by_role("button", name="Log in", exact=True).click()
    await bob.goto("/dashboard")
    await expect(bob.get_by_text("Punched cards")).to_be_visible()
