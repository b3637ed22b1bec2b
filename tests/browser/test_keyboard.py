"""Keyboard only: a day's work with neither mouse nor finger, the focus always somewhere it can be seen."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from service.guardrails.permissions import Role
from tests.browser.conftest import OpenTab
from tests.support.factories import PASSWORD, Factory

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FOCUSED_NAME = """(() => {
    const here = document.activeElement;
    return (here.getAttribute("aria-label") || here.labels?.[0]?.innerText || here.innerText || "").trim();
})()"""
# What a sighted person sees of the focus: a box on the screen, with a ring (or something in its place) around it.
FOCUS_IS_SEEN = """(() => {
    const here = document.activeElement, box = here.getBoundingClientRect(), style = getComputedStyle(here);
    const wide = box.width > 0 && box.right > 0 && box.left < innerWidth;
    const on_screen = wide && box.bottom > 0 && box.top < innerHeight;
    return on_screen && (style.outlineStyle !== "none" || style.boxShadow !== "none");
})()"""


async def press_until(page: Page, name: str, key: str = "Tab", most: int = 60) -> None:
    """Move the focus until the focused element has this accessible name; it must be visible there."""
    for _ in range(most):
        await page.keyboard.press(key)
        if (await focused(page)).startswith(name):
            assert await page.evaluate(FOCUS_IS_SEEN), f"{name} has the focus and that cannot be seen"
            return
    raise AssertionError(f"{most} times {key} and {name} never had the focus")


async def focused(page: Page) -> str:
    """First line of the accessible name of what has the focus."""
    name: str = await page.evaluate(FOCUSED_NAME)
    return name.split("\n")[0]


async def log_in(page: Page, email: str) -> None:
    await page.goto("/login")
    if await focused(page) != "E-mail address":
        await press_until(page, "E-mail address")
    await page.keyboard.type(email)
    await press_until(page, "Password")
    await page.keyboard.type(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Dashboard")).to_be_visible()


async def create(page: Page, name: str) -> None:
    await page.keyboard.press("Tab")
    assert await focused(page) == "Skip to content"
    await page.keyboard.press("Enter")
    await press_until(page, "New indicator")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="New indicator")).to_be_visible()
    await press_until(page, "Name")
    await page.keyboard.type(name)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name=name)).to_be_visible()


async def add_reading(page: Page) -> None:
    await press_until(page, "Time (UTC)")
    # The browser's own field: month and day move on by themselves, the year waits for an arrow.
    for keys in ("05", "01", "2026", "ArrowRight", "10", "30", "AM"):
        await (page.keyboard.press(keys) if keys == "ArrowRight" else page.keyboard.type(keys))
    await press_until(page, "Value")
    await page.keyboard.type("1234")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Reading added.")).to_be_visible()
    row = page.get_by_role("row").filter(has_text="1,234")
    await expect(row).to_contain_text("10:30")


async def delete(page: Page) -> None:
    """Changes their mind once: Escape closes the question, deletes nothing, and gives the focus back."""
    await press_until(page, "Edit")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Edit Typed by hand")).to_be_visible()
    await press_until(page, "Delete indicator")
    await page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_be_visible()
    assert await focused(page) == "Cancel", "the harmless answer first"
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    assert await focused(page) == "Delete indicator"
    await page.keyboard.press("Enter")
    await expect(dialog).to_be_visible()
    await press_until(page, "Delete indicator", most=1)
    assert await page.evaluate("document.activeElement.closest('dialog') !== null")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Bin")).to_be_visible()


async def test_a_days_work_by_keyboard_alone(open_tab: OpenTab, factory: Factory) -> None:
    person = await factory.person(Role.MEMBER, password=PASSWORD)
    assert person.organization_id is not None
    await factory.plan(person.organization_id)  # the reading that is typed below is older than the free plan shows
    page = await open_tab(locale="en-US")
    await log_in(page, person.email)
    await create(page, "Typed by hand")
    await add_reading(page)
    await delete(page)
    await press_until(page, "Restore")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Typed by hand")).to_be_visible()
    await expect(page.get_by_text("1,234").first).to_be_visible()


async def test_a_question_that_was_cancelled_and_asked_again_at_once_takes_the_second_answer(
    signed_in: OpenTab, factory: Factory
) -> None:
    """The browser tells of the first one's end when the second is open already; once that cancelled both."""
    page = await signed_in(Role.MEMBER)
    indicator = await factory.indicator(page.organization, "Asked twice")  # type: ignore[attr-defined]
    await page.goto(f"/indicators/{indicator}/edit")
    await page.get_by_role("button", name="Delete indicator").click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.evaluate("document.getElementById('confirm').close(); document.querySelector('[data-confirm]').click()")
    await page.get_by_role("dialog").get_by_role("button", name="Delete indicator").click()
    await expect(page.get_by_role("heading", name="Bin")).to_be_visible()
