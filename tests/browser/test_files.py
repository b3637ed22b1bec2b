"""A person sends a picture and gets it back clean, loses it to the bin and restores it; a virus is locked away."""

from __future__ import annotations

import pytest
from playwright.async_api import FilePayload, Page, expect

from service.guardrails.permissions import Role
from tests.browser.conftest import OpenTab, assert_accessible, assert_fits
from tests.guardrails.hostile_files import CANARY, EICAR, picture
from tests.support.servers import RunningWorker

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


async def send(page: Page, name: str, content: bytes) -> None:
    file: FilePayload = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    await page.get_by_label("File", exact=False).set_input_files(file)
    await page.get_by_role("button", name="Send").click()
    await expect(page.get_by_text(f"“{name}” has arrived and is being checked.")).to_be_visible()


async def test_a_picture_comes_back_clean_and_a_virus_never(signed_in: OpenTab, worker: RunningWorker) -> None:
    page = await signed_in(Role.ADMIN, **PHONE)
    await page.goto("/files")
    await expect(page.get_by_text("No files yet")).to_be_visible()
    await send(page, "holiday.jpg", picture("JPEG", exif=b"Exif\0\0" + CANARY))
    # The page asks by itself until the worker has looked.
    row = page.get_by_role("row").filter(has_text="holiday.jpg")
    async with page.expect_download() as downloading:
        await row.get_by_role("link", name="Download").click()
    download = await downloading.value
    assert download.suggested_filename == "holiday.jpg"
    content = (await download.path()).read_bytes()
    assert content.startswith(b"\xff\xd8\xff")
    assert CANARY not in content, "the place where it was taken stays behind"
    await assert_accessible(page)
    await assert_fits(page)

    await send(page, "invoice.txt", b"hello\n" + EICAR)
    sentence = "A virus scanner recognized it. It is locked away; look at the device it came from."
    locked = page.get_by_role("row").filter(has_text="invoice.txt")
    await expect(locked.get_by_text(sentence)).to_be_visible()
    await expect(locked.get_by_text("Quarantined", exact=True)).to_be_visible()
    await expect(locked.get_by_role("link", name="Download")).to_have_count(0)

    await page.get_by_role("link", name="holiday.jpg").click()
    await page.get_by_role("button", name="Delete").click()
    await expect(page.get_by_text("“holiday.jpg” is in the bin for 30 days.")).to_be_visible()
    await expect(page.get_by_text("They hold 1 MB of your plan's room until then")).to_be_visible()
    await assert_accessible(page)
    await assert_fits(page)
    await page.get_by_role("button", name="Restore").click()
    await expect(page.get_by_text("“holiday.jpg” is back.")).to_be_visible()
    await page.get_by_role("button", name="Delete").click()
    await page.get_by_role("button", name="Delete for good").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete for good").click()
    await expect(page.get_by_text("“holiday.jpg” is deleted for good.")).to_be_visible()
    await expect(page.get_by_text("No deleted files")).to_be_visible()
