"""From a request into the store: the row says first that it comes, and then that it is there."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from uuid import UUID

from service.core.context import Context
from service.core.errors import Unavailable
from service.core.multipart import Incoming
from service.features.files import actions
from service.features.files.models import FILES, File
from service.integrations.storage import Storage, StorageAway


async def _nothing_more(ctx: Context, file: File) -> None: ...


async def receive(
    ctx: Context,
    file_id: UUID,
    key: str,
    kind: str,
    incoming: Incoming,
    note: Callable[[Context, File], Awaitable[None]] = _nothing_more,
) -> File:
    """Store what comes; whatever goes wrong, the room that was reserved for it is given back.

    `note` is what must be written with it, or neither.
    """
    digest = hashlib.sha256()

    async def parts() -> AsyncIterator[bytes]:
        async for part in incoming.parts(partial(FILES.check_beginning, kind)):
            digest.update(part)
            yield part

    try:
        size = await ctx.resources.get(Storage).put(key, parts())
        async with _again(ctx) as later:
            file = await actions.finish_upload(later, file_id, size, digest.digest())
            await note(later, file)
            return file
    except BaseException as error:
        await asyncio.shield(_abandon(ctx, file_id))
        if isinstance(error, StorageAway):
            raise Unavailable("Files cannot be stored right now.", retry_after=30) from error
        raise


async def _abandon(ctx: Context, file_id: UUID) -> None:
    async with _again(ctx) as later:
        await actions.abandon_upload(later, file_id)


@asynccontextmanager
async def _again(ctx: Context) -> AsyncIterator[Context]:
    """The same person in the same organization, in a transaction of its own."""
    async with ctx.resources.database.unit_of_work(tenant=ctx.organization_id, user=ctx.work.user) as work:
        yield replace(ctx, work=work, facts={}, security_events=[])
