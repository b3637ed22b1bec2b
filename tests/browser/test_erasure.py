"""A person decides about their data, asks to be erased, thinks better of it, asks again; the clock moves by a day."""

from __future__ import annotations

from random import randrange

import pytest
from playwright.async_api import Browser, expect

from service.guardrails import sessions
from tests.browser.conftest import assert_accessible, assert_fits
from tests.features.erasure.world import World
from tests.support.factories import Person

pytestmark = [pytest.mark.browser, pytest.mark.slow]
pytest_plugins = ("tests.guardrails.durability", "tests.features.erasure.planet")


async def test_choices_and_the_way_out(chromium: Browser, world: World, person: Person) -> None:
    token, _ = await world.factory.log_in(person)
    url, network = world.factory.url, {"x-forwarded-for": f"10.1.3.{randrange(1, 255)}"}
    context = await chromium.new_context(
        base_url=url, extra_http_headers=network, viewport={"width": 390, "height": 844}
    )
    name = sessions.cookie_name(world.resources.settings)
    await context.add_cookies([{"name": name, "value": token, "url": url}])
    page = await context.new_page()

    await page.goto("/account")
    await page.get_by_role("link", name="Your choices").click()
    news = page.get_by_role("region", name="News about the product")
    await news.get_by_role("button", name="Agree").click()
    await news.get_by_role("button", name="Take it back").click()
    await expect(news.get_by_role("button", name="Agree")).to_be_visible()
    await page.get_by_label("Why").fill("My name is wrong, and you are checking it.")
    await page.get_by_role("button", name="Leave my data alone").click()
    await expect(page.get_by_text("Your data rest.")).to_be_visible()
    await assert_accessible(page)
    await assert_fits(page)

    await page.get_by_role("link", name="Erase my data").click()
    await expect(page.get_by_text("What stays, and why")).to_be_visible()
    await assert_accessible(page)
    await assert_fits(page)
    for _ in range(2):
        await page.get_by_label("Your address").fill(person.email)
        await page.get_by_role("button", name="Erase my data").click()
        take_back = page.get_by_role("button", name="Take it back")
        await expect(take_back).to_be_visible()
        if _ == 0:
            await take_back.click()
            await expect(page.get_by_text("Nothing is erased.")).to_be_visible()
    await assert_accessible(page)

    await world.after_a_day()
    assert (await world.request(person))["state"] == "done"
    await page.goto("/account")
    await expect(page.get_by_role("heading", name="Welcome back")).to_be_visible()
    assert not await world.exists(person)
    await context.close()
