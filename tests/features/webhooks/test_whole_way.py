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
        assert not [one for one in receiver.arrivals if one.type == "indicator.archived"], "the first holds up the next"
        receiver.knobs.status = 200
        page = f"/webhook-endpoints/{endpoint['id']}"
        assert "Failing" in await admin.page(page)
        await admin.submit(f"{page}/pause", page=page)
        await admin.submit(f"{page}/enable", page=page)
        await arrived(receiver, "indicator.archived")
        kinds = [one.type for one in reversed(receiver.arrivals)]
        assert kinds[-2:] == ["indicator.created", "indicator.archived"]
        assert all(one.verified for one in receiver.arrivals)
        until = time.monotonic() + SOON
        while (log := await admin.page(f"{page}?state=delivered")).count("/webhook-deliveries/") < 2:
            assert time.monotonic() < until, log
            await asyncio.sleep(0.05)
