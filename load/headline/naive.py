"""The billing webhook of an app that was built in an afternoon: it keeps each customer's plan in one table."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import stripe
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Customer = dict[str, Any]
Thing = dict[str, Any]

SCHEMA = """
    CREATE TABLE IF NOT EXISTS customers (
        stripe_id text PRIMARY KEY, plan text NOT NULL, status text NOT NULL, period_end bigint, cancel_at bigint
    )
"""
FIND = "SELECT stripe_id, plan, status, period_end, cancel_at FROM customers WHERE stripe_id = $1"
SAVE = """
    INSERT INTO customers (stripe_id, plan, status, period_end, cancel_at) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (stripe_id) DO UPDATE SET plan = $2, status = $3, period_end = $4, cancel_at = $5
"""
PLANS = {"ballast_team_monthly": "team", "ballast_business_monthly": "business"}
MAIL_SECONDS = 0.01
SECRET = os.environ.get("STRIPE_WEBHOOK_SECRET", "")
pool: asyncpg.Pool[Any]


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    global pool
    async with asyncpg.create_pool(os.environ["NAIVE_DATABASE_URL"], min_size=10, max_size=10) as pool:
        await pool.execute(SCHEMA)
        yield


async def webhook(request: Request) -> Response:
    payload = await request.body()
    try:
        stripe.WebhookSignature.verify_header(payload.decode(), request.headers["stripe-signature"], SECRET, 300)
        event = json.loads(payload)
    except (KeyError, ValueError, stripe.SignatureVerificationError):
        return Response(status_code=400)
    handle = HANDLERS.get(event["type"])
    if handle:
        thing = event["data"]["object"]
        customer = await find(thing["customer"])
        handle(customer, thing)
        await send_mail(customer, event["type"])
        await save(customer)
    return JSONResponse({"received": True})


async def find(stripe_id: str) -> Customer:
    row = await pool.fetchrow(FIND, stripe_id)
    if row is None:
        return {"stripe_id": stripe_id, "plan": "free", "status": "none", "period_end": None, "cancel_at": None}
    return dict(row)


async def save(customer: Customer) -> None:
    await pool.execute(SAVE, *customer.values())


async def send_mail(customer: Customer, about: str) -> None:
    await asyncio.sleep(MAIL_SECONDS)


def subscription_changed(customer: Customer, subscription: Thing) -> None:
    item = subscription["items"]["data"][0]
    customer["plan"] = PLANS[item["price"]["lookup_key"]]
    customer["status"] = subscription["status"]
    customer["period_end"] = item["current_period_end"]
    customer["cancel_at"] = subscription["cancel_at"]


def subscription_ended(customer: Customer, subscription: Thing) -> None:
    customer["plan"] = "free"
    customer["status"] = subscription["status"]


def invoice_paid(customer: Customer, invoice: Thing) -> None:
    customer["status"] = "active"
    customer["period_end"] = max(line["period"]["end"] for line in invoice["lines"]["data"])


def payment_failed(customer: Customer, invoice: Thing) -> None:
    customer["status"] = "past_due"


HANDLERS: dict[str, Callable[[Customer, Thing], None]] = {
    "customer.subscription.created": subscription_changed,
    "customer.subscription.updated": subscription_changed,
    "customer.subscription.deleted": subscription_ended,
    "invoice.paid": invoice_paid,
    "invoice.payment_failed": payment_failed,
}


async def home(_: Request) -> Response:
    return JSONResponse({"app": "billing"})


app = Starlette(routes=[Route("/", home), Route("/webhook", webhook, methods=["POST"])], lifespan=lifespan)
