"""A narrow phone, dark, and without scripts: the product works for whoever comes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from playwright.async_api import Page, Route, expect

from infra.sandbox.mail import MailSink
from service.guardrails.permissions import Role
from tests.browser.conftest import COLOURS, OpenTab, assert_accessible, assert_fits
from tests.features.accounts.conftest import Post
from tests.features.accounts.test_second_factor import turn_on
from tests.support.factories import PASSWORD, Factory
from tests.support.servers import RunningWorker

pytestmark = pytest.mark.browser

PHONE = {"width": 320, "height": 640}
PAGES = (
    "/dashboard", "/indicators", "/indicators/new", "/bin", "/members", "/members/invitations", "/organization",
    "/organizations", "/organization/deletion", "/audit-log", "/account", "/account/security", "/account/sessions",
    "/account/password", "/account/deletion", "/confirm", "/staff", "/billing", "/billing/invoices",
    "/api-keys", "/api-keys/new",
)  # fmt: skip
PUBLIC_PAGES = ("/pricing", "/login", "/sign-up", "/forgot", "/recover", "/no-such-page")


async def plant(page: Page, factory: Factory) -> str:
    organization = page.organization  # type: ignore[attr-defined]
    for name in ("Orders", "An indicator with quite a long name that has to wrap somewhere", "Visitors"):
        await factory.indicator(organization, name)
    indicator = await factory.indicator(organization, "With everything", description="d" * 200, unit="EUR")
    await factory.superuser.execute(
        "INSERT INTO readings (organization_id, indicator_id, at, value) VALUES ($1, $2, $3, 1)",
        organization, indicator, datetime(2026, 1, 2, tzinfo=UTC),
    )  # fmt: skip
    return str(indicator)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_fits_a_phone_and_satisfies_axe(
    scheme: str, signed_in: OpenTab, open_tab: OpenTab, factory: Factory, mailbox: MailSink, worker: RunningWorker
) -> None:
    rules = COLOURS if scheme == "dark" else ()
    page = await signed_in(viewport=PHONE, color_scheme=scheme, staff=True)
    indicator = f"/indicators/{await plant(page, factory)}"
    for path in (*PAGES, indicator, f"{indicator}/edit", f"{indicator}/readings/2026-01-02T00:00:00Z"):
        answer = await page.goto(path)
        assert answer is not None
        assert answer.status == 200, path
        await assert_fits(page)
        await assert_accessible(page, *rules)
    stranger = await open_tab(viewport=PHONE, color_scheme=scheme)
    person = await factory.person(Role.MEMBER, password=PASSWORD)
    async with await factory.client(person) as client:
        await client.submit("/forgot", email=person.email)
        await turn_on(client)
    for path in (*PUBLIC_PAGES, await Post(mailbox).link(person.email, "reset")):
        await stranger.goto(path)
        await assert_fits(stranger)
        await assert_accessible(stranger, *rules)
    await expect(stranger.get_by_role("heading", name="Choose another password")).to_be_visible()
    await stranger.goto("/login")
    await stranger.get_by_label("E-mail address").fill(person.email)
    await stranger.get_by_label("Password", exact=True).fill(PASSWORD)
    await stranger.get_by_role("button", name="Log in", exact=True).click()
    await stranger.wait_for_url("**/login/code")
    await assert_fits(stranger)
    await assert_accessible(stranger, *rules)


async def test_a_wrong_form_takes_the_focus_to_what_is_wrong(signed_in: OpenTab) -> None:
    page = await signed_in()
    await page.goto("/indicators/new")
    await page.get_by_label("Unit").fill("EUR")
    await page.get_by_role("button", name="Create indicator").click()
    await expect(page.get_by_role("alert")).to_be_focused()
    await expect(page.get_by_label("Unit")).to_have_value("EUR")
    await expect(page.get_by_label("Name")).to_have_attribute("aria-invalid", "true")
    await assert_accessible(page)


async def test_without_scripts_people_log_in_and_see_the_dashboard(open_tab: OpenTab, factory: Factory) -> None:
    person = await factory.person(Role.MEMBER, password=PASSWORD)
    assert person.organization_id is not None
    await factory.indicator(person.organization_id, "Seen without scripts")
    page = await open_tab(java_script_enabled=False)
    await page.goto("/dashboard")
    await page.get_by_label("E-mail address").fill(person.email)
    await page.get_by_label("Password", exact=True).fill(PASSWORD)
    await page.get_by_role("button", name="Log in", exact=True).click()
    await expect(page.get_by_text("Seen without scripts")).to_be_visible()
    await page.goto("/indicators/new")
    await page.get_by_label("Name").fill("Made without scripts")
    await page.get_by_role("button", name="Create indicator").click()
    await expect(page.get_by_role("heading", name="Made without scripts")).to_be_visible()
    await page.get_by_label("From (UTC)").fill("2026-02-01")
    await page.get_by_label("To (UTC)").fill("2026-01-31")
    await page.get_by_role("button", name="Show these days").click()
    await expect(page.locator("#p-until-error")).to_have_text("Must not lie before the first day.")
    await page.get_by_label("To (UTC)").fill("2026-02-02")
    await page.get_by_role("button", name="Show these days").click()
    await expect(page.get_by_text("1 Feb 2026 to 2 Feb 2026")).to_be_visible()


async def test_without_scripts_people_sign_up(open_tab: OpenTab) -> None:
    page = await open_tab(java_script_enabled=False)
    await page.goto("/sign-up")
    await page.get_by_label("Your name").fill("N")
    await page.get_by_label("E-mail address").fill("not an address")
    await page.get_by_label("Password", exact=True).fill("four wooden chairs outside")
    await page.get_by_role("button", name="Create account").click()
    await expect(page.get_by_label("E-mail address")).to_have_value("not an address")
    await expect(page.get_by_label("Password", exact=True)).to_have_value("")
    await page.get_by_label("E-mail address").fill("no-scripts@example.com")
    await page.get_by_label("Password", exact=True).fill("four wooden chairs outside")
    await page.get_by_role("button", name="Create account").click()
    await page.wait_for_url("**/sign-up/sent")


async def test_the_dashboard_shows_a_new_reading_by_itself(signed_in: OpenTab, factory: Factory) -> None:
    """The poll: the page stays open, a reading arrives, the tile changes without anybody touching it."""
    page = await signed_in()
    organization = page.organization  # type: ignore[attr-defined]
    await factory.indicator(organization, "Live", latest_value=1.0)
    await page.clock.install()
    await page.goto("/dashboard")
    await expect(page.locator(".tile-value").first).to_have_text("1")
    await factory.superuser.execute(
        "UPDATE indicators SET latest_value = 77, changed_at = changed_at + interval '1 second'"
        " WHERE organization_id = $1", organization,
    )  # fmt: skip
    await page.clock.run_for(2_000)  # the page notes when to ask
    await page.clock.fast_forward(35_000)  # and that moment has come; running on would time the request out
    await expect(page.locator(".tile-value").first).to_have_text("77")


async def test_a_poll_that_brings_nothing_new_still_moves_the_stamp(signed_in: OpenTab) -> None:
    page = await signed_in()
    await page.clock.install()
    await page.goto("/dashboard")
    stamp = page.locator("[data-as-of] time")
    await stamp.evaluate("(element) => { element.dateTime = '2026-01-01T00:00:00Z'; }")
    await page.clock.run_for(2_000)
    async with page.expect_response("**/dashboard") as poll:
        await page.clock.fast_forward(35_000)
    assert (await poll.value).status == 304
    await expect(stamp).not_to_have_attribute("datetime", "2026-01-01T00:00:00Z")
    assert await stamp.evaluate("(element) => Math.abs(Date.parse(element.dateTime) - Date.now()) < 120_000")


async def test_old_results_shimmer_until_the_new_ones_are_there(signed_in: OpenTab, factory: Factory) -> None:
    page = await signed_in()
    await plant(page, factory)
    await page.goto("/indicators")
    answered = asyncio.Event()

    async def slowly(route: Route) -> None:
        await answered.wait()
        await route.continue_()

    await page.route("**/indicators?q=*", slowly)
    await page.get_by_label("Search indicators").press_sequentially("visit")
    results = page.locator("#results")
    await expect(results).to_contain_class("htmx-request")
    await expect(results).to_contain_text("Orders")
    animation = "(element) => getComputedStyle(element, '::after').animationName"
    assert await results.evaluate(animation) == "shimmer"
    await page.emulate_media(reduced_motion="reduce")
    assert await results.evaluate(animation) == "none"
    answered.set()
    await expect(results).not_to_contain_text("Orders")
    await expect(results).not_to_contain_class("htmx-request")
