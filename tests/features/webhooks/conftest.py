"""An organization with an endpoint at a receiver over a real socket, and a sender that the tests run by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest

from infra.sandbox.receiver import Receiver, ReceiverKnobs
from service.core import clock
from service.core.context import Resources
from service.core.ids import new_id
from service.core.settings import Settings
from service.features.webhooks.flows.claim import LOCK as CLAIM_LOCK
from service.features.webhooks.flows.claim import claim
from service.features.webhooks.flows.deliver import FOR_ILL, deliver
from service.features.webhooks.models import Endpoint, open_secrets
from service.features.webhooks.schemas import EventType
from service.guardrails.permissions import Role
from service.guardrails.sealed import seal
from service.integrations.webhooks import AT_ONCE, WebhookSender, new_secret
from tests.support.client import Client
from tests.support.factories import Factory

PATIENCE = 2.5
"""Seconds of one attempt; real, because a peer that hangs is. A busy machine needs one to answer two dozen at once."""


@pytest.fixture(scope="session")
def shared_receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def receiver(shared_receiver: Receiver) -> Receiver:
    """Healthy, and with nothing in it."""
    shared_receiver.knobs = ReceiverKnobs()
    shared_receiver.arrivals.clear()
    return shared_receiver


@pytest.fixture
async def sender(settings: Settings, resources: Resources) -> AsyncIterator[WebhookSender]:
    """Impatient; in place of the product's for the length of a test."""
    hasty = settings.model_copy(update={"webhook_timeout_seconds": PATIENCE})
    usual, made = resources.get(WebhookSender), WebhookSender(hasty)
    resources.provide(WebhookSender, made)
    yield made
    resources.provide(WebhookSender, usual)
    await made.aclose()


@dataclass
class Post:
    """One organization, its admin in a browser, and what the worker would do, step by step."""

    organization: UUID
    admin: Client
    factory: Factory
    resources: Resources
    receiver: Receiver
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def superuser(self) -> asyncpg.Connection[Any]:
        return self.factory.superuser

    async def endpoint(self, url: str = "", **columns: Any) -> UUID:
        """An endpoint for everything, at the receiver unless said otherwise; the receiver knows its secret."""
        identifier, secret = new_id(), new_secret()
        values = {
            "id": identifier, "organization_id": self.organization, "url": url or self.receiver.url, "description": "",
            "event_types": list(EventType), "ordered": False, "state": "active", "reason": "",
            "secret": seal(Endpoint.secret, secret, identifier), "created_at": clock.now(),
            "failures": 0, **columns,
        }  # fmt: skip
        await self._insert("webhook_endpoints", values)
        self.receiver.secrets.append(secret)
        return identifier

    async def message(self, endpoint: UUID, **columns: Any) -> UUID:
        identifier, now = new_id(), clock.now()
        values = {
            "id": identifier, "organization_id": self.organization, "endpoint_id": endpoint, "event_id": new_id(),
            "type": "indicator.created", "payload": orjson.dumps({"type": "indicator.created"}).decode(),
            "state": "waiting", "created_at": now, "next_attempt_at": now, **columns,
        }  # fmt: skip
        await self._insert("webhook_deliveries", values)
        return identifier

    async def _insert(self, table: str, values: dict[str, Any]) -> None:
        marks = ", ".join(f"${n + 1}" for n in range(len(values)))
        await self.superuser.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", *values.values())

    async def send(self, *, room: int = AT_ONCE, room_for_ill: int = FOR_ILL) -> int:
        """One round of the worker's loop, to its end; how many attempts it made."""
        async with self.turn, self.superuser.transaction():
            found = await claim(self.superuser, clock.now(), room=room, room_for_ill=room_for_ill)
        writers = asyncio.Semaphore(2)
        await asyncio.gather(*(deliver(self.resources, one, writers) for one in found))
        return len(found)

    async def row(self, table: str, identifier: UUID) -> asyncpg.Record:
        found = await self.superuser.fetchrow(f"SELECT * FROM {table} WHERE id = $1", identifier)
        assert found is not None
        return found

    async def deliveries(self, endpoint: UUID) -> list[asyncpg.Record]:
        found: list[asyncpg.Record] = await self.superuser.fetch(
            "SELECT *, payload::text AS body FROM webhook_deliveries WHERE endpoint_id = $1 ORDER BY seq", endpoint
        )
        return found

    async def attempts(self, delivery: UUID) -> list[asyncpg.Record]:
        found: list[asyncpg.Record] = await self.superuser.fetch(
            "SELECT * FROM webhook_attempts WHERE delivery_id = $1 ORDER BY number", delivery
        )
        return found

    async def secrets_of(self, endpoint: UUID, at: datetime) -> list[str]:
        row = await self.row("webhook_endpoints", endpoint)
        return open_secrets(endpoint, at, row["secret"], row["old_secret"], row["old_secret_until"])


@pytest.fixture
async def post(
    factory: Factory, resources: Resources, receiver: Receiver, sender: WebhookSender
) -> AsyncIterator[Post]:
    """Nobody else sends meanwhile: a worker of another test would be faster, and know nothing of a moved clock."""
    await factory.superuser.execute(f"SELECT pg_advisory_lock({CLAIM_LOCK})")
    await sweep(factory)
    organization = await factory.organization()
    await factory.plan(organization)
    async with await factory.client(await factory.person(Role.ADMIN, organization)) as admin:
        yield Post(organization, admin, factory, resources, receiver)
    await sweep(factory)
    await factory.superuser.execute(f"SELECT pg_advisory_unlock({CLAIM_LOCK})")


async def sweep(factory: Factory) -> None:
    """What is due anywhere would be sent by `Post.send`."""
    for table in ("webhook_attempts", "webhook_deliveries", "webhook_endpoints"):
        await factory.superuser.execute(f"DELETE FROM {table}")
