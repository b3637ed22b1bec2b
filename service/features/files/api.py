"""JSON under /api/v1/files; what is sent comes as a form, because JSON has no bytes."""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from uuid import UUID

from fastapi import APIRouter, Request, Response, status

from service.core.context import Context
from service.core.errors import Invalid
from service.core.multipart import Incoming, arriving
from service.features.files import actions, queries
from service.features.files.flows import intake, links
from service.features.files.flows.names import display_name
from service.features.files.models import FILES, File
from service.features.files.schemas import FileLink, FileRead
from service.guardrails.actions import allow
from service.guardrails.contexts import KeyCtx
from service.guardrails.idempotency import Claim, IdempotencyKey, IdempotentRoute, claim_of, remember
from service.guardrails.pagination import Page, PageRequest
from service.guardrails.rate_limits import UPLOAD, limit
from service.guardrails.uploads.policy import accept_upload
from service.web.responses import After

router = APIRouter(route_class=IdempotentRoute)
BYTES = {"type": "string", "format": "binary", "description": "With its name: the extension says of which kind it is."}
FORM = {
    "schema": {"type": "object", "required": ["file"], "properties": {"file": BYTES}, "additionalProperties": False}
}


@router.get("")
async def list_files(ctx: KeyCtx, page: PageRequest) -> Page[FileRead]:
    """The organization's files, the latest first, a page at a time."""
    return await queries.list_files(ctx, page)


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    response_model=FileRead,
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": FORM}}},
)
@limit(UPLOAD)
@accept_upload(FILES)
async def upload_file(request: Request, ctx: KeyCtx, key: IdempotencyKey) -> Response:
    """Send one file of up to 25 MB: PNG, JPEG, GIF, WebP, PDF, XLSX, DOCX, CSV or text.

    It is `pending` until it was scanned and inspected. Then it is `clean` and can be downloaded, or its `sentence` says
    why it cannot. Sent again with the same key, it is compared and not stored again.
    """
    allow(ctx, actions.begin_upload)
    incoming, claim = await arriving(request), claim_of(request)
    if incoming.part != "file" or incoming.fields:
        raise Invalid("The form has parts that do not belong here.", mend="Send the file as 'file', and nothing else.")
    if claim.stored is not None:
        return After(partial(_compare, incoming, claim))
    file = await actions.begin_upload(ctx, display_name(incoming.name), incoming.declared)
    return After(partial(_receive, ctx, file, incoming, claim))


async def _compare(incoming: Incoming, claim: Claim) -> Response:
    digest = sha256()
    async for part in incoming.parts(lambda _: None):
        digest.update(part)
    known = claim.replay(_content(incoming, digest.digest()))
    assert known is not None  # noqa: S101 - nobody comes here without a stored answer
    return known


async def _receive(ctx: Context, file: File, incoming: Incoming, claim: Claim) -> Response:
    async def note(later: Context, stored: File) -> None:
        claim.replay(_content(incoming, stored.digest))
        await remember(claim, later, _created(stored))

    return _created(await intake.receive(ctx, file.id, file.key, file.kind, incoming, note))


def _created(file: File) -> Response:
    body = FileRead.model_validate(file).model_dump_json()
    return Response(body, status.HTTP_201_CREATED, media_type="application/json")


def _content(incoming: Incoming, digest: bytes) -> bytes:
    """What makes two uploads the same: their names and their bytes, whatever the form around them."""
    return incoming.name.encode() + b"\0" + digest


@router.get("/{file_id}")
async def get_file(ctx: KeyCtx, file_id: UUID) -> FileRead:
    """One file, and what became of it."""
    return await queries.get_file(ctx, file_id)


@router.get("/{file_id}/link", responses={409: {}})
async def get_download_link(ctx: KeyCtx, file_id: UUID) -> FileLink:
    """An address that hands out the bytes for a minute, to whoever has it: without a key, and always as an attachment.

    Only a clean file has one; for any other the answer is 409.
    """
    return links.make_link(ctx.resources, *await queries.get_download(ctx, file_id))


@router.delete("/{file_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_file(ctx: KeyCtx, file_id: UUID) -> Response:
    """Move it to the bin, where it stays for 30 days; the pages bring it back."""
    await actions.delete_file(ctx, file_id)
    return Response(status_code=status.HTTP_204_NO_CONTENT)
