"""The demo shows something on each page of staff, and planting it twice changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from infra.sandbox.ports import free_port
from infra.sandbox.stripe.server import StripeStandIn
from service.app import build
from service.catalog import load_tables
from service.core import clock
from service.core.settings import Settings
from service.features.accounts.models.totp import code_at
from service.seed import plant, plant_webhooks
from service.web.staff import Listing
from tests.support.client import Client
from tests.support.doubts import people_in_internal
from tests.support.servers import RunningServer

pytest_plugins = "tests.guardrails.durability"
"""A database of its own: the demo has fixed ids."""
LISTINGS = 27
"""How many lists staff had when this was set: fewer means that the scan is blind."""
EMPTY = {
    "/staff/break-glass-acts": "under the rights that the demo shows, nothing was done",
    "/staff/dead-letters/jobs": "one that failed opens the ticket JobsFailed, and its runbook's diagnosis then matches",
    "/staff/dead-letters/stripe-customers": "one that waits there wakes somebody: BillingBehind",
}
"""Lists without a row in the demo, and why. No worker runs here: that of `make run` soon does what waits as a job."""
PAGES = {
    "/staff/news": "Sources bring figures by themselves",
    "/staff/restrictions": "End it",
    "/staff/erasures": "requested",
    "/staff/subscriptions": """<span class="badge success">active</span>""",
    "/staff/switches": "Ticket 4690",
    "/staff/flags": "00000002",
    "/staff/events": "erasure.enter",
    "/staff/break-glass": "reviewed",
    "/staff/mail": "5.1.1",
    "/staff/quarantine": "Eicar-Test-Signature",
    "/staff/people": """<span class="badge danger">deleted</span>""",
    "/staff/dead-letters/stripe-messages": "customer.updated",
    "/staff/dead-letters/mail-events": "bounce",
    "/staff/dead-letters/webhooks": "plan.changed",
    "/staff/webhooks": "disabled (failing)",
}
"""What else some pages must say."""
PAGING = """
    SELECT (SELECT count(*) FROM break_glass_grants WHERE reviewed_at IS NULL OR closed_at IS NULL)
        + (SELECT count(*) FROM support_visits WHERE ended_at IS NULL)
        + (SELECT count(*) FROM inbox WHERE state = 'pending')
"""


@pytest.fixture
def shop() -> Iterator[StripeStandIn]:
    """Of its own: what is bought here is no drift of another test."""
    with StripeStandIn() as stand_in:
        yield stand_in


async def rows_of(connection: asyncpg.Connection[Any]) -> dict[str, int]:
    tables = load_tables().tables
    return {name: await connection.fetchval(f'SELECT count(*) FROM "{name}"') for name in tables}


async def test_the_demo_has_something_on_each_page_of_staff(
    own_settings: Settings, own_superuser: asyncpg.Connection[Any], shop: StripeStandIn
) -> None:
    places = {"base_url": f"http://127.0.0.1:{free_port()}", "stripe_api_base": shop.address}
    settings = own_settings.model_copy(update=places)
    logins, receiver = await plant(settings), f"http://127.0.0.1:{free_port()}/"
    secrets = await plant_webhooks(settings, receiver)
    before = await rows_of(own_superuser)
    assert (await plant(settings), await plant_webhooks(settings, receiver)) == (logins, secrets)
    assert await rows_of(own_superuser) == before
    assert await own_superuser.fetchval(PAGING) == 0, "nobody is woken by the demo"
    listings: list[Listing] = build(settings).state.panel.listings
    assert len(listings) >= LISTINGS, f"the scan saw only {len(listings)} listings"
    paths = {listing.path for listing in listings}
    with RunningServer(settings):
        async with Client(settings.base_url) as staff:
            login = logins[-1]
            await staff.submit("/login", email=login["email"], password=login["password"])
            code = code_at(login["authenticator_key"].encode(), clock.now())
            assert (await staff.submit("/login/code", code=code)).status_code == 303
            shown = {path: await staff.page(path) for path in paths | set(PAGES)}
            assert {path for path in paths if "<tr" not in shown[path]} == set(EMPTY), (
                "plant something for the list (service/seed), or say above why it stays empty"
            )
            file = str(await own_superuser.fetchval("SELECT id FROM files LIMIT 1"))
            other = str(await own_superuser.fetchval("SELECT max(id::text) FROM organizations"))
            assert (await staff.page(f"/staff/files?file_id={file}")).count("<tr") == 2, "the head and this one"
            assert "None" in await staff.page(f"/staff/files?file_id={file}&organization_id={other}")
            assert "None" in await staff.page("/staff/subscriptions?stripe_id=sub_nobody&organization_id=")
            assert {path for path, words in PAGES.items() if words not in shown[path]} == set()
        async with Client(settings.base_url) as owner:
            await owner.submit("/login", email="owner@ballast.example", password=logins[0]["password"])
            assert "Ticket 4702" in await owner.page("/organization/support")
    assert not await people_in_internal(own_superuser), "a column that is declared internal holds a person"
