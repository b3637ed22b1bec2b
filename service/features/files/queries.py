"""Reads of files."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import bindparam, func, or_, select

from service.core.context import Context
from service.core.errors import NotFound
from service.core.statements import Prepared
from service.features.files.models import File, FileFinding, FileState
from service.features.files.schemas import DeletedFileRead, FileListed, FileRead, FilesWanted, FindingRead, Used
from service.guardrails.actions import query
from service.guardrails.pagination import Keyset, Page, Position, paginate
from service.guardrails.permissions import Role, Who
from service.web.staff_lists import Across

COLUMNS = (File.id, File.name, File.kind, File.size, File.state, File.finding, File.active, File.created_at)
SHOWN = (File.state != FileState.RECEIVING, File.state != FileState.ABANDONED)
LIST = Keyset(select(*COLUMNS).where(*SHOWN), order=(File.id.desc(),))
BINNED = File.deletion_id.is_not(None)
BIN = Keyset(
    # The first condition is what the bin's own small index is made of.
    select(File.id, File.name, File.size, File.deleted_at).where(File.deleted_at.is_not(None), BINNED),
    order=(File.id.desc(),),
    include_deleted=True,
)
ONE = Prepared(select(*COLUMNS).where(File.id == bindparam("id"), *SHOWN))
USED = Prepared(
    select(
        func.coalesce(func.sum(File.size), 0).label("bytes"),
        func.coalesce(func.sum(File.size).filter(BINNED), 0).label("binned"),
    ).where(or_(File.deleted_at.is_(None), BINNED)),
    include_deleted=True,
)

LISTED = Across(File, FileListed)
FINDINGS = Across(FileFinding, FindingRead, one=FileFinding.file_id)


@query("files.list", requires=Role.VIEWER)
async def list_files(ctx: Context, page: Position) -> Page[FileRead]:
    return await paginate(ctx, LIST, page, FileRead)


@query("files.bin", requires=Role.MEMBER)
async def list_deleted_files(ctx: Context, page: Position) -> Page[DeletedFileRead]:
    return await paginate(ctx, BIN, page, DeletedFileRead)


@query("files.get", requires=Role.VIEWER)
async def get_file(ctx: Context, file_id: UUID) -> FileRead:
    row = await ctx.fetch_one(ONE, id=file_id)
    if row is None:
        raise NotFound("There is no such file.")
    return FileRead.model_validate(dict(row))


@query("files.download", requires=Role.VIEWER, while_impersonated=False)
async def get_download(ctx: Context, file_id: UUID) -> tuple[str, str, int]:
    """Key, name and size of a clean file; raises Conflict for any other, however it is asked for."""
    file = await ctx.get(File, file_id, lock=False)
    file.insist_on_being_clean()
    return file.key, file.name, file.size


@query("files.used", requires=Role.VIEWER)
async def get_used(ctx: Context) -> Used:
    """With the bin, because the store holds that too: sending and deleting in turn would fill it for nothing."""
    [row] = await ctx.fetch(USED)
    return Used(-(-int(row["bytes"]) // 1_000_000), -(-int(row["binned"]) // 1_000_000))


@query("files.findings", requires=Who.STAFF)
async def list_findings(ctx: Context, wanted: FilesWanted, page: Position) -> Page[FindingRead]:
    """Of all organizations or of one, newest first; or in the one file with this id."""
    return await FINDINGS.page(ctx, wanted, page, wanted.file_id)


@query("files.list_for_staff", requires=Who.STAFF)
async def list_files_for_staff(ctx: Context, wanted: FilesWanted, page: Position) -> Page[FileListed]:
    """Of all organizations or of one, newest first; or the one file with this id."""
    return await LISTED.page(ctx, wanted, page, wanted.file_id)
