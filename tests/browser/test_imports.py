"""A person imports a file with a mistake, mends it, and sees the chart; on a phone as well as at a desk."""

from __future__ import annotations

import pytest
from playwright.async_api import FilePayload, expect

from service.guardrails.permissions import Role
from tests.browser.conftest import OpenTab, assert_accessible, assert_fits
from tests.support.servers import RunningWorker

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
WRONG = "time;value\n2026-03-01 10:00;12,5\n2026-03-01 11:00;13.5\n2026-03-01 12:00;14,5\n"


def file(text: str) -> FilePayload:
    return {"name": "march.csv", "mimeType": "text/csv", "buffer": text.encode()}


async def test_a_file_is_uploaded_mended_and_seen_as_a_chart(signed_in: OpenTab, worker: RunningWorker) -> None:
    page = await signed_in(Role.MEMBER, **PHONE)
    await page.goto("/dashboard")
    await expect(page.get_by_role("link", name="Import a CSV file")).to_be_visible()
    await page.goto("/indicators/new")
    await page.get_by_label("Name").fill("Visitors")
    await page.get_by_role("button", name="Create indicator").click()
    await page.get_by_role("link", name="Import", exact=True).click()
    await assert_accessible(page)
    await assert_fits(page)
    await page.get_by_label("Time zone").select_option("Europe/Berlin")
    await page.get_by_label("Decimal mark").select_option("comma")
    await page.get_by_label("File", exact=True).set_input_files(file(WRONG))
    await page.get_by_role("button", name="Upload and import").click()
    # The page asks by itself until the import has ended.
    await expect(page.get_by_text("Nothing was stored, because some rows are wrong")).to_be_visible()
    await expect(page.get_by_role("cell", name="The value has a point. Write 1234,5")).to_be_visible()
    await assert_accessible(page)
    await assert_fits(page)
    async with page.expect_download() as downloading:
        await page.get_by_role("link", name="Download the verdicts").click()
    verdicts = await (await downloading.value).path()
    assert verdicts.read_text().splitlines()[1] == "2,not stored,"

    await page.get_by_role("link", name="Upload the mended file").click()
    await page.get_by_label("Decimal mark").select_option("comma")
    await page.get_by_label("File", exact=True).set_input_files(file(WRONG.replace("13.5", "13,5")))
    await page.get_by_role("button", name="Upload and import").click()
    await expect(page.get_by_text("done", exact=True)).to_be_visible()
    await page.get_by_role("link", name="See the chart").click()
    await page.goto(f"{page.url}?since=2026-03-01&until=2026-03-02&step=hour")
    await expect(page.locator("#chart svg").first).to_be_visible()
    await expect(page.get_by_text("14.5").first).to_be_visible()
