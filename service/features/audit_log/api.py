"""JSON under /api/v1/audit_log."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from service.features.audit_log import queries
from service.features.audit_log.schemas import Entry, Filters
from service.guardrails.contexts import KeyCtx
from service.guardrails.pagination import Page, PageRequest

router = APIRouter()


@router.get("")
async def list_audit_entries(ctx: KeyCtx, wanted: Annotated[Filters, Query()], page: PageRequest) -> Page[Entry]:
    """Who did what to what, newest first; for keys that an owner made."""
    return await queries.list_entries(ctx, wanted, page)
