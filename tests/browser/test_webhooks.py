"""An endpoint from its first message to its recovery, in a real browser: what a developer does after an outage."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.async_api import Page, expect

from infra.sandbox.receiver import Receiver, ReceiverKnobs
from tests.browser.conftest import OpenTab, assert_accessible, assert_fits
from tests.browser.test_story import PHONE
from tests.support.servers import RunningWorker

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


async def seen(page: Page, words: str) -> None:
    """Look again until the page says so: the worker sends when it is its turn."""
    for _ in range(60):
        if await page.get_by_text(words, exact=True).count():
            break
        await page.wait_for_timeout(250)
        await page.reload()
    await expect(page.get_by_text(words, exact=True).first).to_be_visible()
    await assert_accessible(page)
    await assert_fits(page)


async def test_an_endpoint_fails_and_recovers(signed_in: OpenTab, receiver: Receiver, worker: RunningWorker) -> None:
    page = await signed_in(**PHONE)
    await page.goto("/webhook-endpoints")
    await page.get_by_role("link", name="New endpoint").first.click()
    await page.get_by_label("Address").fill(receiver.url)
    await page.get_by_role("textbox", name="Description").fill("Order desk")
    await assert_accessible(page)
    await page.get_by_role("button", name="Create endpoint").click()
    await expect(page).to_have_url(re.compile(r"/webhook-endpoints/[0-9a-f-]{36}$"))
    endpoint = page.url
    await page.get_by_role("button", name="Show secret").click()
    receiver.secrets.append(await page.get_by_label("Signing secret", exact=True).inner_text())
    await page.goto(endpoint)
    assert receiver.secrets[0] not in await page.content(), "it is shown when it is asked for, and once"

    receiver.knobs = ReceiverKnobs(status=503, retry_after=600)
    await page.get_by_role("button", name="Send test event").click()
    await seen(page, "503")
    await expect(page.get_by_text("Its server has failed since")).to_be_visible()
    await page.locator("a[href^='/webhook-deliveries/']").click()
    await expect(page.get_by_role("cell", name="thank you")).to_be_visible()
    await page.get_by_role("button", name="Give up").click()
    await page.get_by_role("dialog").get_by_role("button", name="Give up").click()
    await seen(page, "Given up")
    message = page.url

    receiver.knobs = ReceiverKnobs()
    await page.goto(endpoint)
    # It asked us to wait for ten minutes; who has mended it need not.
    await page.get_by_role("button", name="Pause").click()
    await page.get_by_role("button", name="Enable").click()
    await page.goto(message)
    await page.get_by_role("button", name="Send again").click()
    await seen(page, "Delivered")
    assert [one.verified != "" for one in receiver.arrivals] == [True, True]
    assert len({(one.message_id, one.body) for one in receiver.arrivals}) == 1, "the same message, to the byte"
