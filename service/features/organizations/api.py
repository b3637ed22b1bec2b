"""JSON under /api/v1/organizations. `current` is the organization the session acts for."""

from __future__ import annotations

from fastapi import APIRouter, status

from service.features.organizations import actions, queries
from service.features.organizations.schemas import (
    InvitationCreate,
    InvitationRead,
    MemberRead,
    OrganizationName,
    OrganizationRead,
)
from service.guardrails.contexts import Ctx, UserCtx
from service.guardrails.idempotency import IdempotencyKey, IdempotentRoute
from service.guardrails.pagination import Page, PageRequest
from service.guardrails.rate_limits import INVITATION, limit

router = APIRouter(route_class=IdempotentRoute)


@router.get("")
async def list_organizations(ctx: UserCtx, page: PageRequest) -> Page[OrganizationRead]:
    return await queries.list_organizations(ctx, page)


@router.post("", status_code=status.HTTP_201_CREATED)
async def create_organization(ctx: UserCtx, given: OrganizationName, key: IdempotencyKey) -> OrganizationRead:
    """You become its owner; the session goes on acting for the organization it acted for before."""
    await actions.create_organization(ctx, given.name)
    return await queries.get_current_organization(ctx)


@router.get("/current")
async def get_organization(ctx: Ctx) -> OrganizationRead:
    return await queries.get_current_organization(ctx)


@router.get("/current/members")
async def list_members(ctx: Ctx, page: PageRequest) -> Page[MemberRead]:
    return await queries.list_members(ctx, page)


@router.get("/current/invitations")
async def list_invitations(ctx: Ctx, page: PageRequest) -> Page[InvitationRead]:
    return await queries.list_invitations(ctx, page)


@router.post("/current/invitations", status_code=status.HTTP_201_CREATED)
@limit(INVITATION)
async def invite(ctx: Ctx, given: InvitationCreate, key: IdempotencyKey) -> InvitationRead:
    return InvitationRead.model_validate(await actions.invite(ctx, given))
