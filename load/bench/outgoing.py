"""Outgoing webhooks at a steady pace to healthy servers, alone and while another customer's server hangs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from os import environ

import asyncpg

from infra.sandbox.receiver import Receiver
from load.bench.world import World
from service.core import clock
from service.core.ids import new_id
from service.features.webhooks.models import Endpoint
from service.guardrails.sealed import seal
from service.integrations.webhooks import new_secret

ENDPOINTS = 20
PER_SECOND = 50
PATIENCE = 120.0
ENDPOINT = """
    INSERT INTO webhook_endpoints (id, organization_id, url, description, event_types, ordered, state, reason, secret,
        created_at, failures) VALUES ($1, $2, $3, '', '{plan.changed}', false, 'active', '', $4, now(), 0)
"""
MESSAGE = """
    INSERT INTO webhook_deliveries (organization_id, endpoint_id, event_id, type, payload, state, created_at,
        next_attempt_at) VALUES ($1, $2, $3, 'plan.changed', '{"type": "plan.changed"}', 'waiting', $4, $4)
"""


@dataclass(frozen=True)
class Outgoing:
    """Seconds from when each message was due until it had arrived."""

    alone: list[float]
    beside_one_that_hangs: list[float]


async def deliver(stage: World, messages: int) -> Outgoing:
    """Both runs with a worker of its own process. Raises TimeoutError when messages do not arrive."""
    superuser = await asyncpg.connect(stage.superuser_url)
    organization = new_id()
    await superuser.execute(
        "INSERT INTO organizations (id, name, created_at) VALUES ($1, 'Bench', now())", organization
    )
    worker = subprocess.Popen(
        [sys.executable, "-m", "service", "worker"],
        env={**environ, **stage.environment, "WEBHOOK_SANDBOX_HOSTS": "127.0.0.1"},
        stdout=subprocess.DEVNULL,
    )
    try:
        with Receiver() as healthy, Receiver() as hanging:
            hanging.knobs.hang = 3600
            endpoints = [await _endpoint(superuser, organization, f"{healthy.url}?{n}") for n in range(ENDPOINTS)]
            await _run(superuser, organization, healthy, endpoints, PER_SECOND)  # warmed up
            alone = await _run(superuser, organization, healthy, endpoints, messages)
            sick = await _endpoint(superuser, organization, hanging.url)
            await superuser.executemany(MESSAGE, [(organization, sick, new_id(), clock.now()) for _ in range(messages)])
            beside = await _run(superuser, organization, healthy, endpoints, messages)
    finally:
        worker.terminate()
        worker.wait(40)
        await superuser.close()
    return Outgoing(alone, beside)


async def _endpoint(superuser: asyncpg.Connection, organization: object, url: str) -> object:
    identifier = new_id()
    sealed = seal(Endpoint.secret, new_secret(), identifier)
    await superuser.execute(ENDPOINT, identifier, organization, url, sealed)
    return identifier


async def _run(
    superuser: asyncpg.Connection, organization: object, healthy: Receiver, endpoints: list[object], messages: int
) -> list[float]:
    """Plant them with the moments at which they are due, and wait for the last."""
    start = clock.now() + timedelta(seconds=1)
    due = {new_id(): start + timedelta(seconds=n / PER_SECOND) for n in range(messages)}
    rows = [(organization, endpoints[n % ENDPOINTS], event, at) for n, (event, at) in enumerate(due.items())]
    await superuser.executemany(MESSAGE, rows)
    waits: dict[str, float] = {}
    expected = {f"msg_{event.hex}": at.timestamp() for event, at in due.items()}
    until = time.monotonic() + messages / PER_SECOND + PATIENCE
    while len(waits) < messages:
        if time.monotonic() > until:
            raise TimeoutError(f"{messages - len(waits)} of {messages} messages did not arrive")
        for one in list(healthy.arrivals):
            if one.message_id in expected:
                waits.setdefault(one.message_id, one.received_at - expected[one.message_id])
        await asyncio.sleep(0.1)
    return list(waits.values())


def render(found: Outgoing, machine: str) -> str:
    def p99(seconds: list[float]) -> float:
        ordered = sorted(seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]

    alone, beside = p99(found.alone), p99(found.beside_one_that_hangs)
    return "\n".join([
        f"{machine}. {len(found.alone):,} messages, {PER_SECOND} a second, to {ENDPOINTS} endpoints; one worker.",
        "",
        "| from due to arrived | p99 |",
        "|---|--:|",
        f"| all servers answer | {alone:.2f} s |",
        f"| one more server hangs, {len(found.alone):,} messages wait for it | {beside:.2f} s |",
        "",
        f"Ratio of the two: {beside / alone:.2f}.",
    ])  # fmt: skip
