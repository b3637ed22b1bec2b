"""The same purchase while everything at Stripe that can be disturbed is: the right plan each time, and a way on.

The person does what people do: waits while a page asks for patience, and presses again when it says so.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator

import pytest
from playwright.async_api import Locator, Page, Response, expect

from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.server import StripeStandIn
from tests.browser.conftest import OpenTab
from tests.browser.test_billing import TRIAL, pay_with
from tests.browser.test_story import DESK
from tests.support.factories import Factory
from tests.support.servers import RunningServer, RunningWorker
from tests.support.stripe import listen

pytestmark = [pytest.mark.browser, pytest.mark.slow]

RENEWAL = 31 * 86_400 + 7_200
EVERYTHING = StripeKnobs(
    delay_max=0.3,
    reorder_window=0.3,
    duplicate=0.3,
    duplicate_within=0.3,
    twin=0.2,
    suppress=0.05,
    drop=0.1,
    bad_signature=0.2,
    receiver_timeout=0.3,
    retry_factor=0.001,
    api_latency_max=0.05,
    api_answer_late=0.05,
    api_429=0.1,
    api_error_before=0.05,
    api_error_after=0.05,
    api_lost=0.03,
)


@pytest.fixture
def disturbed(stripe: StripeStandIn, server: RunningServer) -> Iterator[StripeStandIn]:
    listen(stripe, server.url)
    stripe.knobs = EVERYTHING
    yield stripe
    stripe.knobs = StripeKnobs()


class Patience:
    """Somebody at the plan page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.told = page.get_by_text("try again").or_(page.get_by_text("Another billing change is on its way"))

    async def wants(self, act: Callable[[], Awaitable[None]], then: Locator) -> None:
        """Press until Stripe has taken it up."""
        for _ in range(10):
            await self.page.goto("/billing")
            if await then.is_visible():
                return
            await act()
            await expect(then.or_(self.told).first).to_be_visible(timeout=30_000)
            if await then.is_visible():
                return
        raise AssertionError(f"nothing but refusals: {await self.page.locator('main').inner_text()}")

    async def presses(self, button: str, then: Locator) -> None:
        await self.wants(self.page.get_by_role("button", name=button).first.click, then)

    async def sees(self, *, plan: str, without: str = "", text: str = "") -> None:
        """Within a few seconds, with no more than the page anew."""
        name, body = self.page.get_by_role("definition").first, self.page.locator("main")
        for _ in range(240):
            await self.page.goto("/billing")
            shown = await body.inner_text()
            if await name.inner_text() == plan and text in shown and not (without and without in shown):
                return
            await self.page.wait_for_timeout(250)
        raise AssertionError(f"not {plan}: {shown}")


async def test_whatever_happens_at_stripe_the_plan_shown_is_the_plan_paid_for(
    signed_in: OpenTab, disturbed: StripeStandIn, worker: RunningWorker, factory: Factory
) -> None:
    page = await signed_in(**DESK)
    mine = "DELETE FROM entitlements WHERE organization_id = $1"
    await factory.superuser.execute(mine, page.organization)  # type: ignore[attr-defined]
    ada, failures = Patience(page), []

    def remember(answer: Response) -> None:
        if answer.status >= 500:
            failures.append(f"{answer.status} {answer.url}")

    page.on("response", remember)
    clock = disturbed.account.clock

    await ada.presses("Choose Team", page.get_by_role("heading", name="Subscribe"))
    await pay_with(page, "4242", "Start")
    await ada.sees(plan="Team", text="Your free trial ends on")
    clock.advance(TRIAL)
    await ada.sees(plan="Team", without="Your free trial ends on")

    async def upgrade() -> None:
        await page.get_by_role("link", name="Upgrade to Business").click()
        switch = page.get_by_role("button", name="Switch to Business")
        await expect(switch.or_(ada.told).first).to_be_visible()
        if await switch.is_visible():
            await switch.click()

    await ada.wants(upgrade, page.get_by_role("definition").first.filter(has_text="Business"))
    await ada.sees(plan="Business")

    await ada.presses("Card and address", page.get_by_role("heading", name="Card"))
    await pay_with(page, "0341", "Use this card")
    clock.advance(RENEWAL)
    await ada.sees(plan="Business", text="The last payment did not go through.")
    await page.get_by_role("link", name=re.compile("Pay €29.00 now")).click()
    await pay_with(page, "4242", "Pay")
    await ada.sees(plan="Business", without="did not go through")

    async def cancel() -> None:
        await page.get_by_role("button", name="Cancel the plan").click()
        await page.get_by_role("dialog").get_by_role("button", name="Cancel the plan").click()

    await ada.wants(cancel, page.get_by_text("Your plan ends on"))
    await ada.sees(plan="Business", text="Your plan ends on")
    await ada.presses("Keep the plan", page.get_by_role("button", name="Cancel the plan"))
    await ada.sees(plan="Business", without="Your plan ends on")
    assert not failures
