"""An owner, with an auditor beside them, finds an act in the log, narrows it down and takes it along as a file."""

from __future__ import annotations

import json

import pytest
from playwright.async_api import expect

from service.guardrails.permissions import Role
from tests.browser.conftest import OpenTab, assert_accessible, assert_fits

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
async def test_an_auditor_reads_the_log(signed_in: OpenTab, scripts: bool) -> None:
    page = await signed_in(Role.OWNER, java_script_enabled=scripts, viewport={"width": 390, "height": 844})
    await page.goto("/indicators/new")
    await page.get_by_label("Name").fill("Cash at hand")
    await page.get_by_role("button", name="Create").click()
    await expect(page.get_by_role("heading", name="Cash at hand")).to_be_visible()

    await page.goto("/audit-log")
    await expect(page.get_by_text("created an indicator")).to_be_visible()
    await page.get_by_label("What happened").select_option("indicators.delete")
    await page.get_by_role("button", name="Show").click()
    await expect(page.get_by_text("Nothing in the log fits these filters.")).to_be_visible()
    await page.get_by_label("What happened").select_option("indicators.create")
    await page.get_by_role("button", name="Show").click()
    await expect(page.get_by_text("created an indicator")).to_be_visible()
    await expect(page.get_by_text("read the audit log")).to_have_count(0)
    if scripts:
        await assert_accessible(page)
    await assert_fits(page)
    async with page.expect_download() as downloading:
        await page.get_by_role("link", name="JSON").click()
    rows = json.loads((await (await downloading.value).path()).read_text())
    assert [row["action"] for row in rows] == ["indicators.create"], "the file holds what the page shows"
