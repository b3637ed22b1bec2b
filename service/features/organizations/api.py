"""JSON under /api/v1/organizations. `current` is the organization the session acts for."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Response, status

from service.features.organizations import actions, queries
from service.features.organizations.schemas import (
    InvitationCreate,
    InvitationRead,
    MemberRead,
    OrganizationName,
    OrganizationRead,
    RoleChange,
)
from service.guardrails.contexts import Ctx, UserCtx
from service.guardrails.idempotency import IdempotencyKey, IdempotentRoute
from service.guardrails.pagination import Page, PageRequest

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


@router.patch("/current")
async def rename_organization(ctx: Ctx, given: OrganizationName) -> OrganizationRead:
    await actions.rename_organization(ctx, given.name)
    return await queries.get_current_organization(ctx)


@router.get("/current/members")
async def list_members(ctx: Ctx, page: PageRequest) -> Page[MemberRead]:
    return await queries.list_members(ctx, page)


@router.put("/current/members/{membership_id}/role")
async def change_role(ctx: Ctx, membership_id: UUID, given: RoleChange) -> MemberRead:
    await actions.change_role(ctx, membership_id, given.role)
    return await queries.get_member(ctx, membership_id)


@router.delete("/current/members/{membership_id}", status_code=status.HTTP_204_NO_CONTENT)
async def remove_member(ctx: Ctx, membership_id: UUID) -> Response:
    await actions.remove_member(ctx, membership_id)
    return Response(status_code=status.HTTP_204_NO_CONTENT)


@router.get("/current/invitations")
async def list_invitations(ctx: Ctx, page: PageRequest) -> Page[InvitationRead]:
    return await queries.list_invitations(ctx, page)


@router.post("/current/invitations", status_code=status.HTTP_201_CREATED)
async def invite(ctx: Ctx, given: InvitationCreate, key: IdempotencyKey) -> InvitationRead:
    return InvitationRead.model_validate(await actions.invite(ctx, given))


@router.delete("/current/invitations/{invitation_id}", status_code=status.HTTP_204_NO_CONTENT)
async def revoke_invitation(ctx: Ctx, invitation_id: UUID) -> Response:
    await actions.revoke_invitation(ctx, invitation_id)
    return Response(status_code=status.HTTP_204_NO_CONTENT)
