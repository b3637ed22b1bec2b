"""The post office: mail is sent by hand, events are told and dealt with by hand, and everything can be looked at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import orjson

from infra.sandbox.sendgrid import SendGridStandIn, Sent, sign
from service.core import clock
from service.core.context import SYSTEM, Caller, Context, Resources
from service.core.ids import new_id
from service.features.notifications.flows.events import work_off
from service.guardrails import mailing
from service.web.mail import LETTERS, deliver
from tests.support.factories import Factory


@dataclass
class Office:
    """The post office: send by hand, hear of it by hand, look."""

    sendgrid: SendGridStandIn
    resources: Resources
    superuser: asyncpg.Connection[Any]
    factory: Factory
    url: str

    @asynccontextmanager
    async def acting(self, organization: UUID | None = None) -> AsyncIterator[Context]:
        async with self.resources.database.unit_of_work(tenant=organization) as work:
            yield Context(work, self.resources, SYSTEM, Caller("test"), organization_id=organization)

    async def send(self, to: str, template: str = "accounts/mail/notice", reference: str = "") -> str:
        """One try to send a mail; raises what the job would."""
        reference = reference or f"test.{new_id()}"
        async with self.acting() as ctx:
            sample = {name: value for name, value in LETTERS[template].sample.items() if name != "unsubscribe"}
            await deliver(ctx, to, template, reference, None, **sample)
        return reference

    async def post(self, *events: dict[str, Any], **headers: str) -> httpx.Response:
        """Events as SendGrid delivers them."""
        body = orjson.dumps(list(events))
        async with httpx.AsyncClient(verify=False) as client:
            signed = sign(body, str(int(clock.now().timestamp()))) | headers
            return await client.post(f"{self.url}/webhooks/sendgrid", content=body, headers=signed)

    def event(self, to: str, kind: str, reference: str = "", **more: Any) -> dict[str, Any]:
        sent = Sent("sg1", to, "", {"reference": reference} if reference else {}, [])
        return self.sendgrid.event(sent, kind, **more)

    async def hear(self, *events: dict[str, Any]) -> None:
        """Deliver events, and deal with all that waits."""
        assert (await self.post(*events)).status_code == 200
        await self.work_off()

    async def work_off(self) -> None:
        while await work_off(self.resources):
            pass

    async def heard_by_itself(self, reference: str, state: str) -> None:
        """What the stand-in posts of its own accord has arrived and is dealt with."""
        for _ in range(1_500):
            await self.work_off()
            if await self.state(reference) == state:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"{reference} is {await self.state(reference)}, not {state}")

    async def state(self, reference: str) -> str | None:
        found: str | None = await self.superuser.fetchval(
            "SELECT state FROM sent_mails WHERE reference = $1", reference
        )
        return found

    async def causes(self, address: str) -> set[str]:
        async with self.resources.database.unit_of_work(tenant=None) as work:
            return {cause.value for cause in await mailing.causes(work.raw, address)}

    def got(self, address: str) -> list[str]:
        return [mail.subject for mail in self.sendgrid.inbox.to(address)]
