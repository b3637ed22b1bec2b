"""What tests of billing do with the Stripe stand-in: stock it, tie an organization to a customer, wait for the copy."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from random import randrange
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import orjson
from stripe import WebhookSignature

from infra.sandbox.stripe import catalog, customers, endpoints, payment_methods, subscriptions
from infra.sandbox.stripe.records import WAITING
from infra.sandbox.stripe.server import StripeStandIn
from infra.sandbox.stripe.store import Obj
from service.core.ids import new_id
from service.features.billing.models.plans import BY_KEY, CURRENCY, PLANS

WEBHOOK_SECRET = "whsec_ballast_sandbox_secret"
GOOD, DECLINED, CHALLENGED = "pm_card_visa", "pm_card_chargeCustomerFail", "pm_card_authenticationRequired"


def stock(stand_in: StripeStandIn) -> None:
    """Make the prices that plans.py names."""
    with stand_in.account.lock:
        for plan in PLANS:
            if plan.lookup_key:
                catalog.add_price(
                    stand_in.account,
                    {
                        "currency": CURRENCY,
                        "unit_amount": plan.amount,
                        "lookup_key": plan.lookup_key,
                        "recurring": {"interval": "month"},
                        "product_data": {"name": plan.name},
                    },
                )


def listen(stand_in: StripeStandIn, base_url: str, **more: Any) -> str:
    """Point a webhook endpoint at the service; its id."""
    given = {"secret": WEBHOOK_SECRET, **more}
    return str(endpoints.add(stand_in.account, f"{base_url}/webhooks/stripe", **given)["id"])


def price_of(stand_in: StripeStandIn, plan: str) -> str:
    found = stand_in.account.store.of("price", lookup_key=BY_KEY[plan].lookup_key)
    return str(found[0]["id"])


@dataclass
class Subscriber:
    """An organization and its customer at Stripe; the verbs are what happens there."""

    stand_in: StripeStandIn
    superuser: asyncpg.Connection[Any]
    organization: UUID
    customer: str

    def subscribe(self, plan: str = "team", **params: Any) -> Obj:
        with self.stand_in.account.lock:
            given = {"customer": self.customer, "items": [{"price": price_of(self.stand_in, plan)}], **params}
            return subscriptions.create(self.stand_in.account, given)

    def update(self, subscription: Obj, **params: Any) -> Obj:
        with self.stand_in.account.lock:
            return subscriptions.update(self.stand_in.account, subscription["id"], params)

    def change_to(self, subscription: Obj, plan: str, **params: Any) -> Obj:
        item = subscription["items"]["data"][0]["id"]
        return self.update(subscription, items=[{"id": item, "price": price_of(self.stand_in, plan)}], **params)

    def cancel(self, subscription: Obj) -> Obj:
        with self.stand_in.account.lock:
            return subscriptions.cancel(self.stand_in.account, subscription["id"])

    def use_card(self, card: str) -> None:
        with self.stand_in.account.lock:
            method = payment_methods.attached(self.stand_in.account, card, self.customer)
            settings = {"invoice_settings": {"default_payment_method": method["id"]}}
            customers.update(self.stand_in.account, settings, self.customer)

    async def row(self) -> asyncpg.Record:
        found = await self.superuser.fetchrow(
            "SELECT * FROM billing_customers WHERE stripe_customer_id = $1", self.customer
        )
        assert found is not None
        return found

    async def plan(self) -> str:
        """What the organization may use, by the name of the plan."""
        found = await self.superuser.fetchval(
            "SELECT plan FROM entitlements WHERE organization_id = $1", self.organization
        )
        return str(found or "free")

    async def delivered(self, seconds: float = 60) -> None:
        """Every event about this customer has arrived at the service, whatever else is on the way."""
        deadline = time.monotonic() + seconds
        while waiting := self._on_the_way():
            assert time.monotonic() < deadline, f"still on the way: {waiting}"
            await asyncio.sleep(0.02)

    def _on_the_way(self) -> list[str]:
        with self.stand_in.account.lock:
            mine = [one for one in self.stand_in.account.events.oldest_first() if one.customer == self.customer]
            assert mine, "nothing has happened to this customer"
            return [one.type for one in mine if any(each.state == WAITING for each in one.deliveries)]

    async def settled(self, seconds: float = 60) -> asyncpg.Record:
        """Every delivery has arrived and everything that was heard of has been read."""
        assert await asyncio.to_thread(self.stand_in.account.courier.settle, seconds), "deliveries are still on the way"
        deadline = time.monotonic() + seconds
        while True:
            row = await self.row()
            if row["dirty_gen"] == row["synced_gen"]:
                return row
            assert time.monotonic() < deadline, f"not synchronized: {dict(row)}"
            await asyncio.sleep(0.02)


async def make_subscriber(
    stand_in: StripeStandIn, superuser: asyncpg.Connection[Any], organization: UUID, *, card: str = GOOD
) -> Subscriber:
    with stand_in.account.lock:
        made = customers.add(stand_in.account, {"metadata": {"organization_id": str(organization)}})
    await superuser.execute(
        "INSERT INTO billing_customers (id, organization_id, stripe_customer_id, livemode, created_at)"
        " VALUES ($1, $2, $3, false, now())",
        new_id(), organization, made["id"],
    )  # fmt: skip
    subscriber = Subscriber(stand_in, superuser, organization, made["id"])
    subscriber.use_card(card)
    return subscriber


def event_body(kind: str, obj: dict[str, Any], *, event_id: str = "", **more: Any) -> bytes:
    """An event as Stripe sends it, made by hand for what the stand-in would never send."""
    found = {
        "id": event_id or f"evt_{new_id().hex}", "object": "event", "type": kind, "api_version": "2026-10-28.endive",
        "created": int(time.time()), "livemode": False, "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None}, "data": {"object": obj}, **more,
    }  # fmt: skip
    return orjson.dumps(found)


def signed(body: bytes, secret: str = WEBHOOK_SECRET, *, at: int | None = None) -> dict[str, str]:
    header = WebhookSignature.generate_signature_header(body.decode(), secret, at)
    return {"stripe-signature": header, "content-type": "application/json"}


async def post(url: str, body: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    """A delivery by hand; signed as it should be unless headers are given."""
    async with httpx.AsyncClient(timeout=60, verify=False) as client:
        given = signed(body) if headers is None else headers
        # Failures are counted by address: each delivery comes from one of its own.
        given = {"x-forwarded-for": f"10.{randrange(256)}.{randrange(256)}.{randrange(1, 255)}", **given}
        return await client.post(f"{url}/webhooks/stripe", content=body, headers=given)
