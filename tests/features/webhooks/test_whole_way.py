"""The whole way, with nothing moved by hand: a change over HTTP, the real worker, a customer's server, and the log."""

from __future__ import annotations

import asyncio
import time

from infra.sandbox.receiver import Receiver
from service.guardrails.permissions import Role
from tests.support.client import Client
from tests.support.factories import Factory
from tests.support.servers import RunningWorker

SOON = 60


async def arrived(receiver: Receiver, kind: str) -> list[str]:
    """The ids of the messages of this kind, once there is one."""
    until = time.monotonic() + SOON
    while not (found := [one.message_id for one in list(receiver.arrivals) if one.type == kind]):
        assert time.monotonic() < until, f"no {kind} arrived"
        await asyncio.sleep(0.05)
    return found


async def shown(client: Client, page: str, text: str, times: int = 1) -> None:
    """Wait until the page holds this text that often."""
    until = time.monotonic() + SOON
    while (content := await client.page(page)).count(text) < times:
        assert time.monotonic() < until, content
        await asyncio.sleep(0.05)


async def test_an_endpoint_fails_and_recovers(factory: Factory, worker: RunningWorker, receiver: Receiver) -> None:
    """The journey of a customer whose server is down for a moment."""
    organization = await factory.organization()
    await factory.plan(organization)
    admin: Client
    async with await factory.client(await factory.person(Role.ADMIN, organization)) as admin:
        given = {"url": receiver.url, "event_types": ["indicator.created", "indicator.archived"], "ordered": True}
        endpoint = (await admin.api("POST", "/webhooks", given)).json()
        receiver.secrets.append(endpoint["secret"])
        receiver.knobs.status = 500
        made = (await admin.api("POST", "/indicators", {"name": "While it was down"})).json()
        await admin.api("POST", f"/indicators/{made['id']}/archival")
        await arrived(receiver, "indicator.created")
        page = f"/webhook-endpoints/{endpoint['id']}"
        # The customer's server has seen the attempt; the service writes down its answer after that.
        await shown(admin, page, "Failing")
        assert not [one for one in receiver.arrivals if one.type == "indicator.archived"], "the first holds up the next"
        receiver.knobs.status = 200
        await admin.submit(f"{page}/pause", page=page)
        await admin.submit(f"{page}/enable", page=page)
        await arrived(receiver, "indicator.archived")
        kinds = [one.type for one in reversed(receiver.arrivals)]
        assert kinds[-2:] == ["indicator.created", "indicator.archived"]
        assert all(one.verified for one in receiver.arrivals)
        await shown(admin, f"{page}?state=delivered", "/webhook-deliveries/", times=2)
