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
    """The organization that the key belongs to; `role` is the key's."""
    return await queries.get_current_organization(ctx)


@router.get("/current/members")
async def list_members(ctx: KeyCtx, page: PageRequest) -> Page[MemberRead]:
    """Who belongs to the organization, and in which role."""
    return await queries.list_members(ctx, page)


@router.get("/current/invitations")
async def list_invitations(ctx: KeyCtx, page: PageRequest) -> Page[InvitationRead]:
    """Who is invited and has not come yet."""
    return await queries.list_invitations(ctx, page)
