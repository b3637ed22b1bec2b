"""The pages of the Stripe stand-in in Chromium: with keys alone, without scripts, on a phone, in the dark."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, Page, expect
from stripe import StripeClient

from infra.sandbox.stripe import endpoints
from infra.sandbox.stripe.server import StripeStandIn
from tests.browser.conftest import assert_accessible, assert_fits
from tests.browser.test_keyboard import press_until
from tests.sandbox.stripe.receiver import Receiver
from tests.sandbox.stripe.shop import Shop

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PHONE = {"width": 360, "height": 740}
DESK = {"width": 1200, "height": 900}


@pytest.fixture(scope="module")
def stand_in() -> Iterator[StripeStandIn]:
    with StripeStandIn(seed=11) as running:
        yield running


@pytest.fixture(scope="module")
def shop(stand_in: StripeStandIn) -> Shop:
    return Shop(StripeClient(stand_in.secret_key, base_addresses={"api": stand_in.address}))


async def to_the_shop(page: Page) -> None:
    """The shop of the tests has one page, which says that it was reached."""
    await page.route("http://shop.example/**", lambda route: route.fulfill(body="<h1>Back in the shop</h1>"))


async def test_somebody_pays_refuses_and_confirms_with_keys_alone(chromium: Browser, shop: Shop) -> None:
    context = await chromium.new_context()
    page = await context.new_page()
    await to_the_shop(page)
    await page.goto(shop.checkout(customer=shop.customer()).url)
    await press_until(page, "Visa ending in 4242")
    await press_until(page, "Visa ending in 0341", key="ArrowDown")
    await press_until(page, "Pay 20.00 EUR")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("Your card was declined.")
    await press_until(page, "Visa ending in 0341")
    await press_until(page, "Visa ending in 3184", key="ArrowDown")
    await press_until(page, "Pay 20.00 EUR")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Is this payment yours?")).to_be_visible()
    await press_until(page, "Yes, pay")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Back in the shop")).to_be_visible()
    await context.close()


async def test_a_browser_without_scripts_does_everything(chromium: Browser, shop: Shop) -> None:
    context = await chromium.new_context(java_script_enabled=False)
    page = await context.new_page()
    await to_the_shop(page)
    customer = shop.customer()
    await page.goto(shop.checkout(customer=customer).url)
    await page.get_by_label("Visa ending in 4242").check()
    await page.get_by_role("button", name="Pay 20.00 EUR").click()
    await expect(page.get_by_role("heading", name="Back in the shop")).to_be_visible()
    await page.goto(shop.portal(customer))
    await page.get_by_label("Plan").select_option(label="Pro, 30.00 EUR per month")
    await page.get_by_role("button", name="See what it costs").click()
    await expect(page.get_by_role("heading", name="Change to Pro")).to_be_visible()
    await page.get_by_role("button", name="Confirm").click()
    await expect(page.get_by_role("status")).to_have_text("The change was taken up.")
    await page.get_by_role("button", name="Cancel at the end of the period").click()
    await page.get_by_role("button", name="Do not cancel").click()
    await page.get_by_role("link", name="← Return").click()
    await expect(page.get_by_role("heading", name="Back in the shop")).to_be_visible()
    await context.close()


@pytest.mark.parametrize(("size", "scheme"), [(PHONE, "dark"), (DESK, "light")])
async def test_every_page_is_accessible_and_fits(
    chromium: Browser, stand_in: StripeStandIn, shop: Shop, size: dict[str, int], scheme: str
) -> None:
    customer = shop.customer()
    with Receiver() as receiver:
        endpoint = endpoints.add(stand_in.account, receiver.url)["id"]
        receiver.answers.extend([503, 200])
        shop.subscribed(customer)
        assert stand_in.account.courier.settle()
        endpoints.delete(stand_in.account, {}, endpoint)
    invoice = shop.client.v1.invoices.list({"customer": customer}).data[0]
    event = shop.client.v1.events.list({"type": "customer.subscription.updated"}).data[0]
    context = await chromium.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
    page = await context.new_page()
    pages = [
        stand_in.address,
        f"{stand_in.address}/?q=nothing",
        f"{stand_in.address}/events/{event.id}",
        f"{stand_in.address}/endpoints",
        f"{stand_in.address}/faults",
        f"{stand_in.address}/checkout/cs_none",
        shop.checkout(customer=customer).url,
        str(invoice.hosted_invoice_url),
        shop.portal(customer),
    ]
    for url in pages:
        await page.goto(url)
        await assert_accessible(page)
        await assert_fits(page)
    await page.get_by_role("button", name="See what it costs").click()
    await assert_accessible(page)
    await assert_fits(page)
    await page.goto(shop.checkout(customer=customer).url)
    await page.get_by_label("Visa ending in 3184").check()
    await page.get_by_role("button", name="Pay 20.00 EUR").click()
    await expect(page.get_by_role("heading", name="Is this payment yours?")).to_be_visible()
    await assert_accessible(page)
    await assert_fits(page)
    await context.close()
