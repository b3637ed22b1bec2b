"""Writes: how keys begin, get a new secret, and end. Only people do that: no key makes another."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import func, or_, select

from service.core import clock
from service.core.context import Context
from service.core.errors import Conflict, Forbidden, Invalid
from service.features.api_keys.models import MOST_KEYS, ApiKey
from service.features.api_keys.queries import offered
from service.features.api_keys.schemas import KeyCreate, KeyRotate, Minted
from service.features.organizations.actions import before_removal
from service.features.organizations.models import Organization
from service.guardrails.actions import action
from service.guardrails.permissions import Role


@action("api_keys.create", requires=Role.ADMIN, step_up=True)
async def create_key(ctx: Context, given: KeyCreate) -> Minted:
    """A key with its maker's role inside its scopes."""
    role = _role(ctx)
    if set(given.scopes) - set(offered(role)):
        raise Invalid("A key cannot have these scopes.", fields={"scopes": "must be among those that are offered"})
    await ctx.get(Organization, ctx.tenant)  # two who make the last one at once take turns
    now = clock.now()
    living = select(func.count()).where(ApiKey.revoked_at.is_(None))
    if (await ctx.db.scalar(living) or 0) >= MOST_KEYS:
        raise Conflict(f"There are {MOST_KEYS} keys already.", mend="Revoke those that nothing uses any more.")
    span = given.lasts.span
    key = ApiKey(
        name=given.name,
        role=role,
        scopes=sorted(set(given.scopes)),
        expires_at=now + span if span else None,
    )
    secret = key.renew(ctx.tenant, ctx.user_id)
    ctx.add(key)
    await ctx.db.flush()
    return Minted(key.id, key.name, secret)


@action("api_keys.rotate", requires=Role.ADMIN, step_up=True)
async def rotate_key(ctx: Context, key_id: UUID, given: KeyRotate) -> Minted:
    """A new secret for the same key: its name, scopes, limits and its place in the log stay."""
    key = await ctx.get(ApiKey, key_id)
    if key.role > _role(ctx):
        ctx.deny("api_keys.rotate")
        raise Forbidden("This key may do more than you may.", mend="Ask an owner to do it.")
    secret = key.renew(ctx.tenant, ctx.user_id, overlap=given.overlap.span)
    ctx.facts["old_secret_works_for"] = given.overlap
    return Minted(key.id, key.name, secret)


@action("api_keys.revoke", requires=Role.ADMIN, while_unpaid=True)
async def revoke_key(ctx: Context, key_id: UUID) -> ApiKey:
    """It stops working at once, with all its secrets; for good. Asks for no password: a leak is urgent."""
    key = await ctx.get(ApiKey, key_id)
    key.revoke()
    return key


async def _end_with(ctx: Context, person_id: UUID) -> None:
    """A removed person still knows the secrets that they were shown."""
    shown = or_(ApiKey.created_by == person_id, ApiKey.previous_by == person_id)
    theirs = select(ApiKey).where(shown, ApiKey.revoked_at.is_(None)).order_by(ApiKey.id)
    keys = list(await ctx.db.scalars(theirs.with_for_update()))
    for key in keys:
        key.end_for(person_id)
    ctx.facts["keys_revoked"] = sum(key.revoked_at is not None for key in keys)


before_removal.append(_end_with)


def _role(ctx: Context) -> Role:
    return Role(ctx.role or Role.VIEWER)
