"""A source from the first click to its recovery, in a real browser; each page on the way can be used by everybody."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.async_api import Page, expect

from infra.sandbox.sources.faults import SourceKnobs
from tests.browser.conftest import OpenTab, assert_accessible, assert_fits
from tests.browser.test_story import PHONE
from tests.conftest import Outside
from tests.support.servers import RunningWorker

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(autouse=True)
def _healthy(outside: Outside) -> Iterator[None]:
    yield
    outside.github.knobs = SourceKnobs()


async def assert_good(page: Page) -> None:
    await assert_accessible(page)
    await assert_fits(page)


async def pull_until(page: Page, words: str) -> None:
    """Press the button, then look again until the page says so."""
    await page.get_by_role("button", name="Pull now").click()
    for _ in range(240):
        if await page.get_by_text(words).count():
            return
        await page.wait_for_timeout(250)
        await page.reload()
    await expect(page.get_by_text(words).first).to_be_visible()


async def test_connect_watch_it_fail_and_recover(signed_in: OpenTab, outside: Outside, worker: RunningWorker) -> None:
    page = await signed_in(**PHONE)
    await page.goto("/sources")
    await assert_good(page)
    await page.get_by_role("link", name="Connect the first source").click()
    await assert_good(page)
    await page.get_by_role("link", name="Connect a GitHub repository").click()
    await page.get_by_label("Repository").fill("nobody/nothing")
    await page.get_by_role("button", name="Test and connect").click()
    await expect(page.get_by_role("alert")).to_contain_text("GitHub has no repository nobody/nothing")
    await assert_good(page)
    await page.get_by_label("Repository").fill("northwind/storefront")
    await page.get_by_role("button", name="Test and connect").click()
    await expect(page).to_have_url(re.compile(r"/sources/[0-9a-f-]{36}$"))
    source = page.url
    await pull_until(page, "Up to date")
    await assert_good(page)

    await page.goto("/dashboard")
    tile = page.get_by_role("listitem").filter(has_text="northwind/storefront stars")
    await expect(tile).to_contain_text("As of")
    await expect(tile).not_to_contain_text("not up to date")
    stars = await tile.locator(".tile-value").inner_text()

    outside.github.knobs = SourceKnobs(failing=True)
    await page.goto(source)
    await pull_until(page, "GitHub answered with an error of its own (500)")
    await assert_good(page)
    await page.goto("/dashboard")
    await expect(tile).to_contain_text("not up to date")
    await expect(tile).to_contain_text("As of")
    await expect(tile.locator(".tile-value")).to_have_text(stars)
    await assert_good(page)

    outside.github.knobs = SourceKnobs()
    await tile.get_by_role("link", name="As of").click()
    await expect(page).to_have_url(source)
    await pull_until(page, "Up to date")
    await page.get_by_role("link", name="Change key").click()
    await assert_good(page)
    await page.goto(source)
    await page.get_by_role("button", name="Delete source").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete source").click()
    await expect(page).to_have_url(re.compile("/sources/bin$"))
    await assert_good(page)
    await page.get_by_role("button", name="Restore").click()
    await expect(page).to_have_url(source)
