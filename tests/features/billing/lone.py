"""A customer in a world where nothing moves by itself (alone.py): what happened is delivered, and read, by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import asyncpg
from starlette.datastructures import Headers

from service.core.context import Caller, Resources
from service.core.database import UnitOfWork
from service.features.billing.flows.claim import claim
from service.features.billing.flows.receive import receive
from service.features.billing.flows.synchronize import synchronize
from service.guardrails.contexts import Signed
from tests.support.stripe import Subscriber, signed


async def deliver(resources: Resources, body: bytes) -> str:
    """A message with its signature, as the webhook's route hands it on."""
    return await receive(Signed(resources, Caller("delivery", "203.0.113.9"), Headers(signed(body)), body))


@dataclass
class Lone(Subscriber):
    """A customer of whom nobody hears and whom nobody reads, until the test says so."""

    resources: Resources
    told: set[str] = field(default_factory=set)

    async def heard(self) -> None:
        """Whatever has happened until now is delivered."""
        for event in self.stand_in.account.events.oldest_first():
            if event.customer == self.customer and event.id not in self.told:
                self.told.add(event.id)
                await deliver(self.resources, event.body)

    async def settled(self, seconds: float = 60) -> asyncpg.Record:
        """Everything that was heard of is read, whenever its turn would have come."""
        async with asyncio.timeout(seconds):
            while (row := await self.row())["dirty_gen"] > row["synced_gen"]:
                async with self.resources.database.connection() as connection:
                    held = await claim(UnitOfWork(connection).raw, 1, livemode=False, only=row["id"])
                for one in held:
                    await synchronize(self.resources, one)
                await asyncio.sleep(0.02)
        return row


MakeLone = Callable[[], Awaitable[Lone]]
