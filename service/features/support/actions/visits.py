"""Writes: how a visit begins and ends, and whether an organization lets visitors in."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select

from service.core import clock
from service.core.context import Actor, ActorKind, Context, Login
from service.core.errors import Conflict, NotFound
from service.core.ids import new_id
from service.features.accounts.models import User
from service.features.organizations.models import Organization
from service.features.support import queries
from service.features.support.models import SupportVisit
from service.features.support.schemas import VisitStart
from service.guardrails import sessions
from service.guardrails.actions import action
from service.guardrails.impersonation import LONGEST
from service.guardrails.permissions import Role, Who


@action("support.begin", requires=Who.STAFF, step_up=True)
async def begin_visit(ctx: Context, person_id: UUID, start: VisitStart) -> str:
    """Enter a person's account in one of their organizations; the cookie value of the visit's session."""
    target = await queries.get_target(ctx, person_id)
    if target.problem:
        raise Conflict(target.problem, mend="Ask them to show you, or to do it themselves.")
    allowed = {place.organization_id: place.allowed for place in target.places}
    if start.organization_id not in allowed:
        raise NotFound("They belong to no such organization.")
    if not allowed[start.organization_id]:
        raise Conflict("This organization does not let support in.", mend="Its owner can allow it under Settings.")
    # Locked, so that whoever becomes staff or leaves at this moment does so before, or ends the visit afterwards.
    person = await ctx.get(User, person_id)
    staff, login = ctx.actor, _login(ctx)
    await ctx.work.act_for(tenant=start.organization_id, user=person_id)
    visit = SupportVisit(
        id=new_id(),
        person_id=person_id,
        staff_id=staff.id,
        reason=start.reason,
        ends_at=clock.now() + LONGEST,
        emergency=ctx.emergency,
    )
    ctx.add(visit)
    await ctx.db.flush()
    token, _ = await sessions.begin_beside(
        ctx.resources,
        login,
        user_id=person_id,
        organization_id=start.organization_id,
        epoch=person.session_epoch,
        visit_id=visit.id,
        ends_at=visit.ends_at,
    )
    ctx.facts |= {"visit": str(visit.id), "reason": start.reason}
    ctx.actor, ctx.acted_by = Actor(ActorKind.USER, person_id), staff
    return token


@action("support.stop", requires=Who.SIGNED_IN, while_read_only=True, while_impersonated=True)
async def stop_visit(ctx: Context) -> str | None:
    """Leave; the cookie value of one's own session, or None when that has ended meanwhile."""
    login = _login(ctx)
    if login.support is None:
        raise Conflict("You are in nobody's account.", mend="Nothing to do.")
    await _end(ctx, login.support.visit_id)
    back = await sessions.return_from(ctx.resources, login)
    return back[0] if back else None


@action("support.come_back", requires=Who.ANYONE, while_read_only=True)
async def come_back(ctx: Context, token: str) -> str | None:
    """From a visit that is over, whatever ended it, to one's own session; None when there is none to go back to."""
    login = await sessions.load(ctx.resources, token)
    if login is None:
        return None
    if login.support is None:
        raise Conflict("You are in nobody's account.", mend="Nothing to do.")
    await ctx.work.act_for(tenant=login.organization_id, user=login.user_id)
    await _end(ctx, login.support.visit_id)
    ctx.actor = Actor(ActorKind.USER, login.user_id)
    ctx.acted_by = Actor(ActorKind.STAFF, login.support.staff_id)
    back = await sessions.return_from(ctx.resources, login)
    return back[0] if back else None


@action("support.expire", requires=Who.SYSTEM, while_read_only=True)
async def expire_visit(ctx: Context, visit_id: UUID) -> None:
    """Close the record of a visit whose time is over and whose visitor did not press Stop."""
    await _end(ctx, visit_id)


@action("support.allow", requires=Role.OWNER, while_unpaid=True)
async def allow_access(ctx: Context, *, allowed: bool) -> Organization:
    """Let our support in, or keep it out; whoever is inside is out at their next click."""
    organization = await ctx.get(Organization, ctx.tenant)
    organization.support_access = allowed
    return organization


async def _end(ctx: Context, visit_id: UUID) -> None:
    visit = await ctx.db.scalar(select(SupportVisit).where(SupportVisit.id == visit_id).with_for_update())
    if visit is not None and visit.end():
        ctx.facts["visit"] = str(visit.id)


def _login(ctx: Context) -> Login:
    assert ctx.login is not None  # noqa: S101 - only people who are logged in get here
    return ctx.login
