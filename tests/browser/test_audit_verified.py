"""Staff have the whole log verified, and the owner's page tells an auditor that it is as it was sealed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
from playwright.async_api import Page, expect

from infra.sandbox.ports import free_port
from service.app import close_resources, create_resources
from service.core.database import Database
from service.core.settings import Settings
from service.guardrails import audit
from service.guardrails.permissions import Role
from tests.browser.conftest import OpenTab, assert_accessible, assert_fits
from tests.browser.test_story import PHONE
from tests.support.factories import Factory
from tests.support.servers import RunningServer, RunningWorker

pytestmark = [pytest.mark.browser, pytest.mark.slow]
pytest_plugins = "tests.guardrails.durability"
"""A database of its own: other tests plant rows that fit no seal."""

WAIT_SECONDS = 120
MADE_AND_SEALED = """
    SELECT EXISTS (SELECT FROM audit_log AS made JOIN audit_segments AS sealed
        ON (made.txid, made.id) <= (sealed.last_txid, sealed.last_id) WHERE made.action = 'indicators.create')
"""


@pytest.fixture
def server(own_settings: Settings) -> Iterator[RunningServer]:
    settings = own_settings.model_copy(update={"base_url": f"http://127.0.0.1:{free_port()}"})
    with RunningServer(settings) as running:
        yield running


@pytest.fixture
async def factory(
    own_settings: Settings, own_superuser: asyncpg.Connection[object], server: RunningServer
) -> AsyncIterator[Factory]:
    resources = create_resources(own_settings)
    yield Factory(own_superuser, resources, server.url)
    await close_resources(resources)


async def until_sealed(superuser: asyncpg.Connection[object]) -> None:
    for _ in range(WAIT_SECONDS * 10):
        if await superuser.fetchval(MADE_AND_SEALED):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("nobody sealed the log")


async def until_verified(page: Page) -> None:
    """Look again until the page says so: a worker begins within moments."""
    for _ in range(WAIT_SECONDS * 4):
        if not await page.get_by_text("Under way").count():
            break
        await page.wait_for_timeout(250)
        await page.reload()
    await expect(page.get_by_text(re.compile(r"[1-9]\d* rows in [1-9]\d* segments, verified"))).to_be_visible()


async def test_staff_have_the_log_verified_and_the_owner_reads_so(
    signed_in: OpenTab,
    own_settings: Settings,
    own_maintenance: Database,
    own_superuser: asyncpg.Connection[object],
    empty_log: None,
) -> None:
    # Today's look comes before anything happens: what the pages say later can only come from the one that staff want.
    assert await audit.check_when_due(own_maintenance, own_settings)
    owner = await signed_in(Role.OWNER, **PHONE)
    staff = await signed_in(staff=True, **PHONE)
    await owner.goto("/indicators/new")
    await owner.get_by_label("Name").fill("Cash at hand")
    await owner.get_by_role("button", name="Create").click()
    await expect(owner.get_by_role("heading", name="Cash at hand")).to_be_visible()

    with RunningWorker(own_settings):
        await until_sealed(own_superuser)
        await owner.goto("/audit-log")
        await expect(owner.get_by_text("the first check is still to come")).to_be_visible()
        await staff.goto("/staff/system")
        await expect(staff.get_by_text("Nothing to verify yet")).to_be_visible()
        await staff.get_by_role("button", name="Verify the log now").click()
        await expect(staff.get_by_text("The worker recomputes the log now.")).to_be_visible()
        await until_verified(staff)
    await expect(staff.get_by_text("Nothing was tampered with")).to_be_visible()
    await assert_accessible(staff)
    await assert_fits(staff)

    await owner.reload()
    await expect(owner.get_by_text(re.compile(r"every entry up to .+ is as it was sealed"))).to_be_visible()
    await expect(owner.get_by_text("created an indicator")).to_be_visible()
    await assert_fits(owner)
