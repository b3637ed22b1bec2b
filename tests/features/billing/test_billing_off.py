"""Where no key is set nothing is sold: no page has a button or a link to nowhere, and nobody is told to upgrade.

The organization here once bought something, which is when the most could be left over.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import asyncpg
import pytest

from infra.sandbox.ports import free_port
from infra.sandbox.stripe.server import StripeStandIn
from service.core.settings import Settings
from service.guardrails.permissions import Role
from tests.features.billing.buyer import words
from tests.support.client import Client
from tests.support.factories import Factory
from tests.support.servers import RunningServer
from tests.support.stripe import make_subscriber

PLACE = re.compile(r'<a [^>]*?href="(/[^"#]*)"')
FORM = re.compile(r'<form [^>]*?method="post"[^>]*?action="([^"]*)"|<form [^>]*?action="([^"]*)"[^>]*?method="post"')
PAGES = (
    "/dashboard", "/indicators", "/members", "/organization", "/organization/deletion", "/organizations", "/account",
    "/billing", "/billing/invoices", "/staff", "/staff/billing",
)  # fmt: skip
SUBSCRIPTION = """
    INSERT INTO billing_subscriptions (stripe_id, organization_id, customer_id, status, currency, items,
        cancel_at_period_end, digest, fetched_at, created_at)
    SELECT 'sub_' || id, organization_id, id, 'active', 'eur', '[]', false, '', now(), now()
    FROM billing_customers WHERE organization_id = $1
"""


@pytest.fixture(scope="module")
def off(settings: Settings) -> Iterator[RunningServer]:
    """The whole service without a way to Stripe."""
    here = {"stripe_api_base": "", "base_url": f"http://127.0.0.1:{free_port()}"}
    with RunningServer(settings.model_copy(update=here)) as running:
        yield running


@pytest.mark.parametrize("once_paid", [False, True])
async def test_nothing_leads_nowhere(
    once_paid: bool,
    off: RunningServer,
    factory: Factory,
    stripe: StripeStandIn,
    superuser: asyncpg.Connection[object],
) -> None:
    ada = await factory.person(Role.OWNER, staff=True)
    assert ada.organization_id is not None
    if once_paid:
        await make_subscriber(stripe, superuser, ada.organization_id)
        await superuser.execute(SUBSCRIPTION, ada.organization_id)
    async with await Factory(superuser, factory.resources, off.url).client(ada, "password", "totp") as client:
        found: set[str] = set()
        for page in PAGES:
            text = await client.page(page)
            found |= {html.unescape(place) for place in PLACE.findall(text)}
            sent = {html.unescape(one or other) for one, other in FORM.findall(text)}
            assert not {to for to in sent if "billing" in to}, f"{page} sends something to Stripe"
        assert "/billing" in found
        for place in found - {"/login/elsewhere"}:
            answer = await client.get(place)
            assert answer.status_code < 400, f"{place} answers {answer.status_code}"
        plan = words(await client.page("/billing"))
        for word in ("Choose", "Upgrade", "Stripe", "can change the plan", "per person and month"):
            assert word not in plan
        assert "Plan Free" in plan
        assert "Billing is off" in await client.page("/staff/billing")
        for path in ("/billing/checkout", "/billing/portal"):
            fields = {"plan": "team"} if path.endswith("checkout") else {}
            refused = await client.post(path, csrf=client.csrf, intent="once", **fields)
            assert refused.status_code == 404, "a page from before the key was taken away"
            assert "Nothing is sold here." in refused.text


async def test_nobody_is_told_to_upgrade(
    off: RunningServer, factory: Factory, superuser: asyncpg.Connection[object]
) -> None:
    ada = await factory.person(Role.OWNER)
    assert ada.organization_id is not None
    await factory.plan(ada.organization_id, "free", limits={"indicators": 0, "api_per_minute": 1})
    async with await Factory(superuser, factory.resources, off.url).client(ada) as client:
        refused = await client.submit("/indicators/new", name="One too many")
        assert "Delete one." in words(refused.text)
        assert "Upgrade" not in refused.text


async def test_there_is_no_price_list(off: RunningServer) -> None:
    async with Client(off.url) as anybody:
        answer = await anybody.get("/pricing")
        assert (answer.status_code, "Nothing is sold here." in answer.text) == (404, True)
        assert "/pricing" not in (await anybody.get("/sign-up")).text
