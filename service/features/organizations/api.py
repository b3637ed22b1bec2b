"""JSON under /api/v1/organizations. `current` is the organization of the key; people are invited by people."""

from __future__ import annotations

from fastapi import APIRouter

from service.features.organizations import queries
from service.features.organizations.schemas import InvitationRead, MemberRead, OrganizationRead
from service.guardrails.contexts import KeyCtx
from service.guardrails.pagination import Page, PageRequest

router = APIRouter()


@router.get("/current")
async def get_organization(ctx: KeyCtx) -> OrganizationRead:
    return await queries.get_current_organization(ctx)


@router.get("/current/members")
async def list_members(ctx: KeyCtx, page: PageRequest) -> Page[MemberRead]:
    return await queries.list_members(ctx, page)


@router.get("/current/invitations")
async def list_invitations(ctx: KeyCtx, page: PageRequest) -> Page[InvitationRead]:
    return await queries.list_invitations(ctx, page)
