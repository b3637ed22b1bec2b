"""A person is told something in the product and by mail, reads it, and stops the mails from the mail itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from random import randrange

import pytest
from playwright.async_api import Browser, expect

from infra.sandbox.sendgrid import SendGridKnobs
from service.core.settings import Settings
from service.guardrails import sessions
from service.guardrails.permissions import Role
from tests.browser.conftest import assert_accessible, assert_fits
from tests.features.notifications.office import Office
from tests.support.servers import RunningWorker

pytestmark = [pytest.mark.browser, pytest.mark.slow]
pytest_plugins = ("tests.guardrails.durability", "tests.features.notifications.post_office")


@pytest.fixture
def working(office: Office, office_settings: Settings) -> Iterator[RunningWorker]:
    with RunningWorker(office_settings) as running:
        yield running


async def until(met: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(600):
        if await met():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not come about within half a minute")


async def test_told_once_read_and_stopped_by_one_click(
    chromium: Browser, office: Office, working: RunningWorker
) -> None:
    owner = await office.factory.person(Role.OWNER)
    member = await office.factory.person(Role.MEMBER, owner.organization_id)
    place = await office.superuser.fetchval("SELECT id FROM memberships WHERE user_id = $1", member.id)
    token, _ = await office.factory.log_in(member)
    network = {"x-forwarded-for": f"10.1.2.{randrange(1, 255)}"}
    context = await chromium.new_context(base_url=office.url, extra_http_headers=network)
    name = sessions.cookie_name(office.resources.settings)
    await context.add_cookies([{"name": name, "value": token, "url": office.url}])
    page = await context.new_page()

    # The provider takes nothing at first: the news is there at once, its mail leaves later, once.
    office.sendgrid.knobs = SendGridKnobs(status=429)
    async with await office.factory.client(owner) as boss:
        assert (await boss.submit(f"/members/{place}/role", page="/members", role="viewer")).status_code == 303

        async def waits() -> bool:
            return bool(await office.superuser.fetchval("SELECT count(*) FROM sent_mails WHERE state = 'waiting'"))

        await until(waits)
        await page.goto("/notifications")
        await assert_accessible(page)
        await assert_fits(page)
        await expect(page.get_by_role("link", name="Notifications 1 new").first).to_be_visible()
        await expect(page.get_by_text("You are viewer now.")).to_be_visible()
        assert office.got(member.email) == []
        office.sendgrid.knobs = SendGridKnobs()

        async def arrived() -> bool:
            return len(office.got(member.email)) == 1

        await until(arrived)
        await page.get_by_role("button", name="Open").click()
        await expect(page.get_by_role("heading", name="Members")).to_be_visible()
        await expect(page.get_by_text("1 new")).to_have_count(0)

        link = dict(office.sendgrid.inbox.to(member.email)[0].headers)["List-Unsubscribe"].strip("<>")
        stranger = await (await chromium.new_context(extra_http_headers=network)).new_page()
        await stranger.goto(link)
        await assert_accessible(stranger)
        await stranger.get_by_role("button", name="Stop these mails").click()
        await expect(stranger.get_by_role("heading", name="No more of these mails")).to_be_visible()
        await page.goto("/account/notifications")
        await assert_accessible(page)
        await expect(page.get_by_label("Your role changes")).to_have_value("app")

        assert (await boss.submit(f"/members/{place}/role", page="/members", role="member")).status_code == 303

        async def told() -> bool:
            news = "SELECT count(*) FROM notifications WHERE user_id = $1"
            return bool(await office.superuser.fetchval(news, member.id) == 2)

        await until(told)
    assert len(office.got(member.email)) == 1, "told in the product, and not by mail"
    await stranger.context.close()
    await context.close()
