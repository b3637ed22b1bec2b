"""`make screenshots`: the pictures in docs/images, taken by a real browser of a product started for the purpose."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pyotp
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from infra.sandbox.configuration import DEFAULT_PORTS, ROOT, Home
from infra.sandbox.console import Console
from infra.sandbox.errors import SandboxError
from infra.sandbox.ports import free_port
from infra.sandbox.product import Product

IMAGES = ROOT / "docs" / "images"
DESK, PHONE = (1280, 860), (390, 844)


def main() -> int:
    console = Console()
    try:
        # Ports of its own: `make run` may be running beside this.
        os.environ |= {f"BALLAST_{name.upper()}_PORT": str(free_port()) for name in DEFAULT_PORTS}
        with tempfile.TemporaryDirectory() as directory, ExitStack() as started:
            product = Product(Home(Path(directory)), console, started)
            product.start()
            with sync_playwright() as playwright:
                # Chromium's own sandbox needs rights that root in a container does not have; we show it only our pages.
                flags = ["--no-sandbox"] if os.geteuid() == 0 else []
                browser = playwright.chromium.launch(executable_path=os.environ["BALLAST_CHROMIUM"], args=flags)
                for name in take(browser, product.environment["BASE_URL"], product.logins):
                    console.say(f"  {(IMAGES / name).relative_to(ROOT)}")
                browser.close()
    except SandboxError as problem:
        console.say(str(problem))
        return 1
    return 0


def take(browser: Browser, app: str, logins: list[dict[str, str]]) -> list[str]:
    """Log in as the demo owner and photograph what a visitor of the README wants to see."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    owner, staff = (next(one for one in logins if one["role"] == role) for role in ("owner", "staff"))
    taken = []
    for suffix, scheme, (width, height), names in (
        ("", "light", DESK, {"login", "dashboard", "indicator"}),
        ("-dark", "dark", DESK, {"dashboard"}),
        ("-phone", "light", PHONE, {"dashboard"}),
    ):
        size: ViewportSize = {"width": width, "height": height}
        page = browser.new_page(viewport=size, color_scheme="dark" if scheme == "dark" else "light")
        for name in ("login", "dashboard", "indicator"):
            _walk(page, app, name, owner)
            if name in names:
                page.screenshot(path=str(IMAGES / f"{name}{suffix}.png"), animations="disabled")
                taken.append(f"{name}{suffix}.png")
        page.close()
    page = browser.new_page(viewport={"width": DESK[0], "height": DESK[1]})
    _enter(page, app, staff)
    page.goto(f"{app}/staff")
    page.screenshot(path=str(IMAGES / "staff.png"), animations="disabled")
    page.close()
    return [*taken, "staff.png"]


def _enter(page: Page, app: str, who: dict[str, str]) -> None:
    """With a second factor, as staff has one."""
    page.goto(f"{app}/login")
    page.fill("input[name=email]", who["email"])
    page.fill("input[name=password]", who["password"])
    page.press("input[name=password]", "Enter")
    page.fill("input[name=code]", pyotp.TOTP(who["authenticator_key"]).now())
    page.press("input[name=code]", "Enter")
    page.get_by_role("link", name="Staff").first.wait_for()


def _walk(page: Page, app: str, name: str, owner: dict[str, str]) -> None:
    """Go to one page the way a person does. Raises SandboxError when it is an error page."""
    if name == "login":
        answer = page.goto(f"{app}/login")
    elif name == "dashboard":
        page.fill("input[name=email]", owner["email"])
        page.fill("input[name=password]", owner["password"])
        page.press("input[name=password]", "Enter")
        page.wait_for_url("**/dashboard*")
        answer = page.reload()
    else:
        page.locator("main a[href^='/indicators/']:not([href$='/new'])").first.click()
        page.wait_for_url("**/indicators/*")
        answer = page.reload()
    if answer is None or not answer.ok:
        raise SandboxError(f"{page.url} answered {answer.status if answer else 'nothing'}: no picture of an error page")


if __name__ == "__main__":
    sys.exit(main())
