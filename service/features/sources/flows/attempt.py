"""Trying a source while a person waits: a few at once, with no transaction open, before anything is saved."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from service.core import clock
from service.core.context import Context, Resources
from service.core.errors import Unavailable
from service.guardrails import audit
from service.integrations.sources.base import Ask
from service.integrations.sources.systems import Systems

FEW_DAYS = timedelta(days=7)
AT_ONCE = 8
_places = asyncio.Semaphore(AT_ONCE)
"""A system that hangs shall hold a few of the people who try it, not every request of this process."""


async def attempt(resources: Resources, kind: str, config: Mapping[str, Any], key: str) -> None:
    """Raises SourceFailed with what is wrong, Unavailable when too many wait already."""
    if _places.locked():
        raise Unavailable("Many people are connecting sources at the moment.", mend="Try again in a minute.")
    now = clock.now()
    async with _places:
        await resources.get(Systems).ask(kind, Ask(config, (now - FEW_DAYS).date(), now, key))


@asynccontextmanager
async def in_my_name(ctx: Context) -> AsyncIterator[Context]:
    """The same person in a new transaction, after the request's own has ended."""
    work_of = ctx.resources.database.unit_of_work(tenant=ctx.organization_id, user=ctx.user_id)
    mine: Context | None = None
    try:
        async with work_of as work:
            mine = Context(
                work,
                ctx.resources,
                ctx.actor,
                ctx.caller,
                organization_id=ctx.organization_id,
                role=ctx.role,
                login=ctx.login,
                entitlements=ctx.entitlements,
            )
            yield mine
    finally:
        if mine is not None and mine.security_events:
            await audit.write_security_events(mine)
