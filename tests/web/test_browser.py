"""app.js in a real Chromium, under the product's strict policy: it helps, and the browser refuses nothing."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import pytest
import uvicorn
from axe_playwright_python.async_playwright import Axe
from fastapi import FastAPI
from playwright.async_api import Browser, Page, Request, async_playwright, expect
from starlette.types import Message, Receive, Scope, Send

from infra.sandbox.ports import free_port
from service.core.settings import get_settings
from service.guardrails.browser import security_headers

pytestmark = pytest.mark.browser
expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")
def address(shelf_app: FastAPI) -> Iterator[str]:
    """The shelf's pages with the security headers that the product sends."""

    async def shielded(scope: Scope, receive: Receive, send: Send) -> None:
        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                for name, value in security_headers(get_settings()):
                    if name not in present:
                        message["headers"] = [*message["headers"], (name, value)]
            await send(message)

        await shelf_app(scope, receive, stamped)

    port = free_port()
    server = uvicorn.Server(uvicorn.Config(shielded, port=port, log_config=None, lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
async def chromium() -> AsyncIterator[Browser]:
    program = os.environ.get("BALLAST_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest.fixture
async def tab(chromium: Browser, address: str) -> AsyncIterator[Page]:
    context = await chromium.new_context(base_url=address, timezone_id="Asia/Tokyo", color_scheme="light")
    await context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    await context.close()
    unexpected = [text for text in complaints if not text.startswith("Failed to load resource")]
    assert not unexpected, "the page broke, or the policy refused something"


async def polls(page: Page, count: int) -> list[tuple[int, Request]]:
    seen: list[tuple[int, Request]] = []
    enough = asyncio.Event()

    def note(response: Any) -> None:
        if response.request.headers.get("hx-request"):
            seen.append((response.status, response.request))
            if len(seen) >= count:
                enough.set()

    page.on("response", note)
    await asyncio.wait_for(enough.wait(), 60)
    return seen


async def test_a_page_asks_again_and_an_unchanged_answer_costs_nothing(tab: Page) -> None:
    await tab.goto("/things")
    [(status, request)] = await polls(tab, 1)
    assert status == 304
    assert request.headers["if-none-match"] == await tab.get_attribute("#part", "data-etag")
    assert re.fullmatch(r"[0-9a-f]{64}", request.headers["x-csrf-token"])
    # The server said seven seconds, in a header of the 304.
    await expect(tab.locator("#part")).to_have_attribute("data-poll", "7")


async def test_a_changed_answer_replaces_the_part(tab: Page) -> None:
    await tab.goto("/things?what=old")
    await expect(tab.locator("#part")).to_contain_text("first")


async def test_an_old_page_does_not_take_a_new_fragment(tab: Page, shelf_app: FastAPI) -> None:
    await tab.goto("/things?what=old")
    version, shelf_app.state.schema_version = shelf_app.state.schema_version, "2027_01_01"
    try:
        await expect(tab.locator("#outdated")).to_be_visible()
        await expect(tab.locator("#part")).to_contain_text("old")
        async with tab.expect_navigation():
            await tab.click("[data-reload]")
    finally:
        shelf_app.state.schema_version = version


async def test_an_unreachable_server_is_said_once_and_forgiven(tab: Page) -> None:
    await tab.goto("/things?what=old")
    await tab.route("**/things", lambda route: route.fulfill(status=503, body="busy"))
    await expect(tab.locator("#offline")).to_be_visible()
    await expect(tab.locator("#part")).to_contain_text("old")
    await tab.unroute("**/things")
    await expect(tab.locator("#part")).to_contain_text("first")
    await expect(tab.locator("#offline")).to_be_hidden()


async def test_a_dangerous_act_asks_first(tab: Page) -> None:
    await tab.goto("/things")
    await tab.click("text=Delete")
    await expect(tab.locator("#confirm-text")).to_have_text("Delete the thing?")
    await tab.keyboard.press("Escape")
    await expect(tab.locator("#confirm")).to_be_hidden()
    assert not await tab.locator("#messages .notice").count()
    await tab.click("text=Delete")
    async with tab.expect_navigation():
        await tab.click("#confirm-yes")
    await expect(tab.locator("#messages")).to_contain_text("Moved to the <bin>.")
    await tab.click("[data-dismiss]")
    await expect(tab.locator("#messages .notice")).to_have_count(0)


async def test_a_second_click_does_not_send_twice(tab: Page) -> None:
    await tab.goto("/form")
    stopped = await tab.evaluate(
        """() => {
            const stopped = [];
            addEventListener("submit", (event) => { stopped.push(event.defaultPrevented); event.preventDefault(); });
            const form = document.querySelector("form");
            for (let click = 0; click < 3; click++) form.requestSubmit();
            return stopped;
        }"""
    )
    assert stopped == [False, True, True]


async def test_errors_take_focus_and_lead_to_the_field(tab: Page) -> None:
    await tab.goto("/form")
    await tab.fill("#f-email", "ada")
    await tab.click("text=Send")
    await expect(tab.locator("#f-errors")).to_be_focused()
    await expect(tab.locator("#f-email")).to_have_value("ada")
    await tab.click("#f-errors >> text=Email")
    await expect(tab.locator("#f-email")).to_be_focused()


async def test_a_password_can_be_looked_at(tab: Page) -> None:
    await tab.goto("/form")
    await tab.click("[data-reveal]")
    await expect(tab.locator("#f-password")).to_have_attribute("type", "text")
    await expect(tab.locator("[data-reveal]")).to_have_attribute("aria-pressed", "true")


async def test_the_theme_is_chosen_and_kept(tab: Page) -> None:
    await tab.goto("/things")
    colour = "getComputedStyle(document.body).backgroundColor"
    light = await tab.evaluate(colour)
    await tab.click(".side [data-theme-toggle]")
    dark = await tab.evaluate(colour)
    await tab.reload()
    assert await tab.evaluate(colour) == dark != light


async def test_secrets_are_copied(tab: Page) -> None:
    await tab.goto("/things")
    await tab.click("[data-copy]")
    await expect(tab.locator("[data-copy]")).to_contain_text("Copied")
    assert await tab.evaluate("navigator.clipboard.readText()") == "one-time-code"


async def test_moments_are_told_in_the_readers_zone(tab: Page) -> None:
    await tab.goto("/moment")
    await expect(tab.locator("time[data-time=full]")).to_have_text("22 Nov 2026, 23:40")
    await expect(tab.locator("time[data-time=full]")).to_have_attribute("title", "22 Nov 2026, 14:40 UTC")


async def test_the_chart_tells_the_value_under_the_pointer(tab: Page) -> None:
    await tab.goto("/moment")
    box = await tab.locator(".chart-plot").bounding_box()
    assert box
    await tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    await expect(tab.locator(".chart-tip")).to_contain_text("≈ 20 EUR")
    await expect(tab.locator(".chart-tip")).to_contain_text("23 Nov 2026, 00:40")
    await tab.mouse.move(1, 1)
    await expect(tab.locator(".chart-tip")).to_be_hidden()


async def test_a_fragment_cannot_bring_a_script(chromium: Browser, address: str) -> None:
    """Should escaping ever fail: neither the script of a fragment nor code in an attribute runs."""
    context = await chromium.new_context(base_url=address)
    page = await context.new_page()
    await page.goto("/things?what=old")
    evil = (
        '<section id="part"><script>window.owned = 1</script><b id="evil" hx-get="javascript:window.owned=2" '
        'hx-on:click="window.owned = 3" onclick="window.owned = 4">x</b></section>'
    )
    await page.route("**/things", lambda route: route.fulfill(body=evil, content_type="text/html"))
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text) if message.type == "error" else None)
    await expect(page.locator("#evil")).to_be_visible()
    await page.dispatch_event("#evil", "click")
    await expect(page.locator("#evil")).to_have_text("x")
    assert await page.evaluate("window.owned === undefined")
    assert len([text for text in refused if "code from strings" in text]) >= 2
    assert [text for text in refused if "Content Security Policy" in text]
    await context.close()


async def test_the_phone_menu_works_without_scripts(chromium: Browser, address: str) -> None:
    context = await chromium.new_context(
        base_url=address, java_script_enabled=False, viewport={"width": 320, "height": 640}
    )
    page = await context.new_page()
    await page.goto("/things")
    await expect(page.locator(".bar a[href='/members']")).to_be_hidden()
    await page.click("summary >> text=Menu")
    await expect(page.locator(".bar a[href='/members']")).to_be_visible()
    await expect(page.locator(".needs-js").first).to_be_hidden()
    await context.close()


@pytest.mark.parametrize("path", ["/things", "/form", "/moment", "/nowhere"])
async def test_nothing_sticks_out_sideways(tab: Page, path: str) -> None:
    """Success criterion 1.4.10, reflow at 320 px."""
    await tab.goto(path)
    for width in (320, 390, 768, 1280):
        await tab.set_viewport_size({"width": width, "height": 700})
        assert await tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), width


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing(chromium: Browser, address: str, scheme: Literal["light", "dark"]) -> None:
    # axe is injected, which the policy would refuse.
    context = await chromium.new_context(base_url=address, color_scheme=scheme, bypass_csp=True)
    page = await context.new_page()
    for path in ("/things", "/form", "/moment", "/nowhere"):
        await page.goto(path)
        if path == "/form":
            await page.click("text=Send")
            await expect(page.locator("#f-errors")).to_be_visible()
        result = (await Axe().run(page)).response
        assert len(result["passes"]) >= 10
        assert not result["violations"], [(path, item["id"], item["nodes"][0]["html"]) for item in result["violations"]]
    await context.close()
