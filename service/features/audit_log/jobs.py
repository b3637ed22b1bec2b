"""The log is verified once a day; one that does not fit its seals is an invariant broken, which pages."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from service.core.context import Context, Resources
from service.core.database import Database
from service.guardrails import audit
from service.guardrails.invariants import invariant
from service.guardrails.jobs import pause, standing

PAUSE_SECONDS = 5.0
"""Staff who ask for it should not wait long; whether it is due are two look-ups by an index."""


@standing("audit-verify", give_up=True)
async def verify_log(resources: Resources, maintenance: Database, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await audit.check_when_due(maintenance, resources.settings)
        await pause(stop, PAUSE_SECONDS)


@invariant("audit_is_as_sealed", "No row of the audit log differs from what was sealed.")
async def find_damage(ctx: Context) -> Sequence[object]:
    last = await audit.last_check(ctx)
    return [f"{last.problems} problems: python -m service audit verify"] if last and last.problems else []
