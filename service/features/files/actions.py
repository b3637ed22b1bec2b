"""Writes of files. Bytes move in flows.py, with no transaction open; here is what is known about them."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select

from service.core import clock
from service.core.context import Context
from service.core.errors import NotFound
from service.features.files import queries
from service.features.files.models import FILES, File, FileFinding, FileState, new_path
from service.features.files.schemas import Judgement
from service.guardrails import soft_delete
from service.guardrails.actions import action
from service.guardrails.entitlements import Feature, counted
from service.guardrails.permissions import Role, Who
from service.guardrails.residency import place


@counted(Feature.FILES_MB, "delete files and then, in the bin, delete them for good")
async def _count_megabytes(ctx: Context) -> int:
    return (await queries.get_used(ctx)).megabytes


@action("files.begin", requires=Role.MEMBER)
async def begin_upload(ctx: Context, name: str, declared: int | None) -> File:
    """Reserve room before the first byte is read: for what was declared, else for the largest there may be.

    Raises UnsupportedMedia for a kind that is not taken, PlanLimit when there is no room.
    """
    kind = FILES.kind_of(name)
    reserved = min(declared or FILES.most_bytes, FILES.most_bytes)
    await ctx.allow(Feature.FILES_MB, -(-reserved // 1_000_000))
    file = File(
        name=name,
        kind=kind,
        key=await place(ctx, new_path(ctx.tenant)),
        size=reserved,
        created_by=ctx.person_id,
    )
    ctx.add(file)
    await ctx.db.flush()
    return file


@action("files.upload", requires=Role.MEMBER)
async def finish_upload(ctx: Context, file_id: UUID, size: int, digest: bytes) -> File:
    file = await ctx.get(File, file_id)
    if file.state is not FileState.RECEIVING:
        raise NotFound("There is no such upload.", mend="Send the file again.")
    file.state, file.size, file.digest, file.next_look_at = FileState.PENDING, size, digest, clock.now()
    return file


@action("files.abandon", requires=Role.MEMBER, while_unpaid=True)
async def abandon_upload(ctx: Context, file_id: UUID) -> File:
    """Gives the reserved room back; what the store got of it goes with the key."""
    file = await ctx.get(File, file_id)
    if file.state is FileState.RECEIVING:
        file.state, file.size, file.key = FileState.ABANDONED, 0, ""
    return file


@action("files.judge", requires=Who.SYSTEM)
async def judge_file(ctx: Context, file_id: UUID, found: Judgement) -> File | None:
    """Deleted ones are judged as well: somebody may want them back. None when another worker was faster."""
    wanted = select(File).where(File.id == file_id, File.state == FileState.PENDING).with_for_update()
    file = (await ctx.db.execute(wanted, execution_options=soft_delete.EVERYTHING)).scalar_one_or_none()
    if file is None:
        return None
    file.state, file.finding, file.active, file.checked_at = found.state, found.finding, found.active, clock.now()
    if found.key is not None:
        file.key, file.size = found.key, found.size
    if found.signature:
        ctx.add(FileFinding(organization_id=file.organization_id, file_id=file.id, signature=found.signature))
    ctx.facts["state"] = found.state.value
    return file


@action("files.lose", requires=Who.SYSTEM)
async def lose_file(ctx: Context, file_id: UUID) -> File | None:
    """Those in the bin too: nothing else is left to restore. None when the row went meanwhile."""
    wanted = select(File).where(File.id == file_id, File.state == FileState.CLEAN).with_for_update()
    file = (await ctx.db.execute(wanted, execution_options=soft_delete.EVERYTHING)).scalar_one_or_none()
    if file is not None:
        file.state, file.size, file.key = FileState.LOST, 0, ""
    return file


@action("files.delete", requires=Role.MEMBER, while_unpaid=True)
async def delete_file(ctx: Context, file_id: UUID) -> File:
    file = await ctx.get(File, file_id)
    await soft_delete.delete(ctx, file)
    return file


@action("files.restore", requires=Role.MEMBER)
async def restore_file(ctx: Context, file_id: UUID) -> File:
    return await soft_delete.restore(ctx, File, file_id)


@action("files.discard", requires=Role.ADMIN, while_unpaid=True)
async def discard_file(ctx: Context, file_id: UUID) -> File:
    """For good, and its room is free at once. Not for members: the bin is there for what one of them does in anger."""
    return await soft_delete.discard(ctx, File, file_id)
