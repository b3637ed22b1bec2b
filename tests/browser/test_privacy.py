"""A person sees what we hold, asks for a copy, waits and downloads it; on a phone as well as at a desk."""

from __future__ import annotations

import os
import zipfile

import pytest
from playwright.async_api import expect

from service.guardrails.permissions import Role
from tests.browser.conftest import OpenTab, assert_accessible, assert_fits
from tests.support.servers import RunningWorker

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


async def test_a_copy_is_asked_for_awaited_and_downloaded(signed_in: OpenTab, worker: RunningWorker) -> None:
    page = await signed_in(Role.OWNER, **PHONE)
    await page.goto("/account")
    await page.get_by_role("link", name="Your data").click()
    await expect(page.get_by_role("heading", name="What we hold about you, and why")).to_be_visible()
    await assert_accessible(page)
    await assert_fits(page)
    await page.get_by_role("button", name="Ask for a copy").click()
    await expect(page.get_by_text("Your copy is being made.")).to_be_visible()
    # The page asks by itself until the copy is ready.
    await expect(page.get_by_role("link", name="Download")).to_be_visible()
    await assert_accessible(page)
    await assert_fits(page)
    if folder := os.environ.get("BALLAST_SHOTS"):
        await page.screenshot(path=f"{folder}/privacy.png", full_page=True)
    async with page.expect_download() as downloading:
        await page.get_by_role("link", name="Download").click()
    archive = zipfile.ZipFile(await (await downloading.value).path())
    assert {"README.txt", "schema.json", "users.json"} <= set(archive.namelist())

    await page.get_by_role("link", name="The whole notice").click()
    await expect(page.get_by_role("heading", name="Who receives some of it")).to_be_visible()
    await assert_accessible(page)
    await assert_fits(page)


async def test_an_owner_takes_the_organization_along(signed_in: OpenTab, worker: RunningWorker) -> None:
    page = await signed_in(Role.OWNER)
    await page.goto("/organization")
    await page.get_by_role("link", name="Copy the organization's data").click()
    await page.get_by_role("button", name="Ask for a copy").click()
    await expect(page.get_by_role("link", name="Download")).to_be_visible()
    await assert_accessible(page)
    await assert_fits(page)
    if folder := os.environ.get("BALLAST_SHOTS"):
        await page.screenshot(path=f"{folder}/organization.png", full_page=True)
    async with page.expect_download() as downloading:
        await page.get_by_role("link", name="Download").click()
    archive = zipfile.ZipFile(await (await downloading.value).path())
    assert {"readings.csv", "people.jsonl", "organizations.jsonl"} <= set(archive.namelist())
