"""A world of its own: database, server, SendGrid and Stripe, and no worker. The machine is cranked by hand."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg

from infra.sandbox.sendgrid import SendGridStandIn
from infra.sandbox.stripe import customers
from infra.sandbox.stripe.server import StripeStandIn
from service.core import clock
from service.core.context import SYSTEM, Caller, Context, Resources
from service.core.ids import new_id
from service.features.erasure.flows.machine import work_off
from service.features.erasure.models import COOLING_OFF
from service.features.privacy.flows.make import make_next
from tests.support.factories import Factory, Person

HOME = "/privacy/erasure"


@dataclass
class World:
    """Everything that a person leaves traces in."""

    resources: Resources
    superuser: asyncpg.Connection[Any]
    factory: Factory
    sendgrid: SendGridStandIn
    stripe: StripeStandIn

    @asynccontextmanager
    async def acting(self) -> AsyncIterator[Context]:
        async with self.resources.database.unit_of_work(tenant=None) as work:
            yield Context(work, self.resources, SYSTEM, Caller("test"))

    async def ask(self, person: Person) -> None:
        """The person asks on the page."""
        async with await self.factory.client(person) as client:
            answer = await client.submit(HOME, page=HOME, email=person.email)
            assert (answer.status_code, answer.headers.get("location")) == (303, HOME), answer.text[:2_000]

    async def copy(self, person: Person) -> zipfile.ZipFile:
        """The person asks for a copy of their data, it is made, and they download it."""
        assert self.resources.maintenance is not None
        async with await self.factory.client(person) as client:
            answer = await client.submit("/privacy/exports", page="/privacy")
            assert answer.status_code == 303, answer.text[:2_000]
            assert await make_next(self.resources, self.resources.maintenance)
            newest = "SELECT id FROM data_exports WHERE user_id = $1 AND state = 'ready' ORDER BY asked_at DESC LIMIT 1"
            export = await self.superuser.fetchval(newest, person.id)
            archive = await client.get(f"/downloads/exports/{export}")
            assert archive.status_code == 200, archive.text[:2_000]
            return zipfile.ZipFile(io.BytesIO(archive.content))

    async def work_off(self) -> None:
        """Until nothing is due."""
        while await work_off(self.resources):
            pass

    async def after_a_day(self) -> None:
        clock.advance(COOLING_OFF + timedelta(minutes=1))
        await self.work_off()

    async def request(self, person: Person) -> asyncpg.Record:
        """The person's newest request."""
        found = await self.superuser.fetchrow(
            "SELECT * FROM erasure_requests WHERE user_id = $1 ORDER BY id DESC LIMIT 1", person.id
        )
        assert found is not None
        return found

    async def steps(self, person: Person) -> dict[str, str]:
        """What is noted of the newest request: step -> evidence."""
        rows = await self.superuser.fetch(
            "SELECT name, evidence::text FROM erasure_steps WHERE request_id = $1 ORDER BY done_at",
            (await self.request(person))["id"],
        )
        return {row["name"]: row["evidence"] for row in rows}

    async def exists(self, person: Person) -> bool:
        return bool(await self.superuser.fetchval("SELECT true FROM users WHERE id = $1", person.id))

    async def customer(self, organization: UUID | None, email: str) -> str:
        """The organization's customer at Stripe, whose contact has this address."""
        with self.stripe.account.lock:
            made: str = customers.add(self.stripe.account, {"name": "Shop", "email": email})["id"]
        await self.superuser.execute(
            "INSERT INTO billing_customers (id, organization_id, stripe_customer_id, livemode, created_at)"
            " VALUES ($1, $2, $3, false, now())",
            new_id(), organization, made,
        )  # fmt: skip
        return made

    def at_stripe(self, customer: str) -> dict[str, Any] | None:
        return self.stripe.account.store.kinds["customer"].get(customer)
