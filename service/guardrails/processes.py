"""Which processes live, what they run, and what their circuit breakers say: each tells Redis every few seconds.

Protects from: an operator who sees one process of ten, and a release of which half is still the old one. How to use:
`report(resources, "web")` as a task for as long as the process lives; `await living(resources)` for a page.
Breakers come from the gauge `circuit_state`, so a new one needs nothing. Limits: a process that ended is shown for
thirty seconds more; while Redis is away nothing is known, and `living` raises one of core.redis.LOST.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from service.core import clock, telemetry
from service.core.context import Resources
from service.core.ids import new_id
from service.core.logging import get_logger
from service.core.migrate import head
from service.core.redis import LOST
from service.core.scripts import Script, now_ms

EVERY_SECONDS = 5.0
LIFE_MS = 30_000
TELL = Script(
    "processes.tell",
    """
  local space, id, now, life, facts = unpack(ARGV)
  redis.call('SET', space .. ':process:' .. id, facts, 'PX', life)
  redis.call('ZADD', space .. ':processes', now, id)
  redis.call('ZREMRANGEBYSCORE', space .. ':processes', '-inf', now - life)
  return redis.call('PEXPIRE', space .. ':processes', life)
""",
)
LIVING = Script(
    "processes.living",
    """
  local found = {}
  for _, id in ipairs(redis.call('ZRANGE', ARGV[1] .. ':processes', 0, -1)) do
    local facts = redis.call('GET', ARGV[1] .. ':process:' .. id)
    if facts then found[#found + 1] = {id, facts} end
  end
  return found
""",
)

log = get_logger()


@dataclass(frozen=True, slots=True)
class Process:
    """One that told something in the last thirty seconds. `breakers`: 0 closed, 1 one call tries, 2 open."""

    id: str
    kind: str
    revision: str
    schema: str
    started_at: datetime
    breakers: dict[str, int]
    store: str
    """Empty, or what is wrong with the object store; only workers look."""


async def report(resources: Resources, kind: str, look: Callable[[], Awaitable[str]] | None = None) -> None:
    """Tell until cancelled. `look` asks, once a minute, what is wrong with the store."""
    identifier, started, store, looked = str(new_id()), clock.now().isoformat(), "", 0
    while True:
        if look is not None and looked % 12 == 0:
            store = await look()
        looked += 1
        breakers = {
            sample.labels["name"]: int(sample.value)
            for metric in telemetry.circuit_state.collect()
            for sample in metric.samples
        }
        facts = {
            "kind": kind, "revision": resources.settings.revision, "schema": head(), "started_at": started,
            "breakers": breakers, "store": store,
        }  # fmt: skip
        try:
            space = resources.settings.redis_namespace
            await TELL.run(resources, space, identifier, now_ms(), LIFE_MS, orjson.dumps(facts))
        except LOST as error:
            log.warning("process not told", error=type(error).__name__)
        await asyncio.sleep(EVERY_SECONDS)


async def living(resources: Resources) -> list[Process]:
    found = await LIVING.run(resources, resources.settings.redis_namespace)
    told: list[tuple[str, dict[str, Any]]] = [(each[0].decode(), orjson.loads(each[1])) for each in found]
    return sorted((_made(*each) for each in told), key=lambda one: (one.kind, one.started_at))


def _made(identifier: str, facts: dict[str, Any]) -> Process:
    """Of an older or a newer release, too, which tells a fact less or one more."""
    began = facts.get("started_at")
    return Process(
        identifier, facts.get("kind", "?"), facts.get("revision", "?"), facts.get("schema", "?"),
        datetime.fromisoformat(began).astimezone(UTC) if began else clock.now(),
        facts.get("breakers", {}), facts.get("store", ""),
    )  # fmt: skip
