"""A file on its way into the store, with no transaction open; however it ends, its import says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from service.core.context import SYSTEM, Context
from service.core.errors import ServiceError
from service.features.imports.actions import finish_import, receive_import
from service.features.imports.models import Import, State
from service.integrations.storage import Storage

INCOMPLETE = "The file did not arrive completely, and nothing of it was stored. Upload it again."


async def receive(ctx: Context, begun: Import, parts: AsyncIterator[bytes]) -> None:
    """Store the parts, then have them read. Raises what the upload was refused for, or StorageAway.

    When this process dies on the way, the import is ended by a worker (flows/claim.py).
    """
    assert begun.object_key is not None  # noqa: S101 - it has just been made
    try:
        size = await ctx.resources.get(Storage).put(begun.object_key, parts)
    except BaseException as error:
        # Also when the person hangs up: an import that seems to be arriving would take the place of another.
        sentence = f"{error.detail} {error.mend}" if isinstance(error, ServiceError) else INCOMPLETE
        await asyncio.shield(_end(ctx, begun, sentence))
        raise
    async with ctx.resources.database.unit_of_work(tenant=begun.organization_id, user=ctx.user_id) as work:
        await receive_import(replace(ctx, work=work, security_events=[]), begun.id, size)


async def _end(ctx: Context, begun: Import, sentence: str) -> None:
    async with ctx.resources.database.unit_of_work(tenant=begun.organization_id) as work:
        system = replace(ctx, work=work, actor=SYSTEM, on_behalf_of=ctx.actor, security_events=[])
        await finish_import(system, begun.id, State.STOPPED, sentence)
