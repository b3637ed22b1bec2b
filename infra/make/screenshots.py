"""`make screenshots`: the pictures in docs/images, taken by a real browser of a product started for the purpose."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from infra.sandbox.configuration import ROOT, Home
from infra.sandbox.console import Console
from infra.sandbox.errors import SandboxError
from infra.sandbox.product import Product

IMAGES = ROOT / "docs" / "images"
DESK, PHONE = (1280, 860), (390, 844)


def main() -> int:
    console = Console()
    try:
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
    owner = next(one for one in logins if one["role"] == "owner")
    taken = []
    for theme, (width, height), suffix in (
        ("light", DESK, ""),
        ("dark", DESK, "-dark"),
        ("light", PHONE, "-phone"),
    ):
        page = browser.new_page(
            viewport={"width": width, "height": height},
            color_scheme="dark" if theme == "dark" else "light",
            device_scale_factor=2 if suffix == "-phone" else 1,
        )
        taken.append(_shoot(page, f"{app}/login", f"login{suffix}.png"))
        page.fill("input[name=email]", owner["email"])
        page.fill("input[name=password]", owner["password"])
        page.press("input[name=password]", "Enter")
        page.wait_for_url("**/dashboard*")
        taken.append(_shoot(page, f"{app}/dashboard", f"dashboard{suffix}.png"))
        page.locator("main a[href^='/indicators/']").first.click()
        page.wait_for_url("**/indicators/*")
        taken.append(_shoot(page, page.url, f"indicator{suffix}.png"))
        page.close()
    return taken


def _shoot(page: Page, url: str, name: str) -> str:
    answer = page.goto(url, wait_until="networkidle" if not url.endswith("/dashboard") else "load")
    if answer is None or not answer.ok:
        raise SandboxError(f"{url} answered {answer.status if answer else 'nothing'}: no picture of an error page")
    page.screenshot(path=str(IMAGES / name), animations="disabled")
    return name


if __name__ == "__main__":
    sys.exit(main())
