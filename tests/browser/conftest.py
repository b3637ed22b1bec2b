"""A real Chromium against the real service: every page it opens must satisfy axe and the content policy."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from random import randrange
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright, expect

from service.guardrails import sessions
from service.guardrails.permissions import Role
from tests.support.factories import Factory
from tests.support.servers import RunningServer

expect.set_options(timeout=60_000)
SERIOUS = ("serious", "critical")
COLOURS = ("color-contrast", "link-in-text-block")
"""Axe's rules that another colour scheme can break; the others judge the same elements again, for seconds a page."""
SCREEN = (*COLOURS, "target-size", "scrollable-region-focusable")
"""Axe's rules that another screen can break."""
HOW_TO_GET = "no Chromium: run `make browser`, which finds or installs one"


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    program = os.environ.get("BALLAST_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    assert program, HOW_TO_GET
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        await browser.close()


OpenTab = Callable[..., Awaitable[Page]]


@pytest.fixture
async def open_tab(chromium: Browser, server: RunningServer) -> AsyncIterator[OpenTab]:
    """Opens tabs, each a browser of its own; at the end no tab may have met an error or a refused script."""
    contexts, complaints = [], []

    async def open_one(**options: Any) -> Page:
        address = f"10.{randrange(256)}.{randrange(256)}.{randrange(1, 255)}"
        context = await chromium.new_context(
            base_url=server.url, extra_http_headers={"x-forwarded-for": address}, **options
        )
        contexts.append(context)
        context.set_default_timeout(60_000)
        page = await context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
        return page

    yield open_one
    for context in contexts:
        await context.close()
    assert not complaints


@pytest.fixture
def signed_in(open_tab: OpenTab, factory: Factory, server: RunningServer) -> OpenTab:
    """A tab of a planted person with a role in an organization of their own."""

    async def open_one(role: Role = Role.OWNER, *, staff: bool = False, **options: Any) -> Page:
        person = await factory.person(role, staff=staff)
        assert person.organization_id is not None
        await factory.plan(person.organization_id)  # years of history: the readings that tests type have fixed dates
        token, _ = await factory.log_in(person, "password", "totp")
        page = await open_one_tab(**options)
        name = sessions.cookie_name(factory.resources.settings)
        await page.context.add_cookies([{"name": name, "value": token, "url": server.url}])
        page.organization = person.organization_id  # type: ignore[attr-defined]
        return page

    open_one_tab = open_tab
    return open_one


async def assert_accessible(page: Page, *rules: str) -> None:
    """No violation that keeps somebody out (WCAG 2.2 A and AA, as axe-core judges it); of these rules, or of any."""
    only = {"runOnly": {"type": "rule", "values": [*rules]}} if rules else {}
    results = await Axe().run(page, options={"resultTypes": ["violations"], **only})
    found = [
        f"{violation['id']}: {violation['help']} {[node['html'][:160] for node in violation['nodes'][:3]]}"
        for violation in results.response["violations"]
        if violation["impact"] in SERIOUS
    ]
    assert not found, f"{page.url}: {found}"


async def assert_fits(page: Page) -> None:
    """Nothing makes the page scroll sideways."""
    wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{page.url} is {wide} px too wide for {page.viewport_size}"
