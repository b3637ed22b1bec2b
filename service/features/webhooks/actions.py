"""Writes. Only admins: an endpoint sees what happens in the whole organization, and its secret vouches for us."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update

from service.core import clock
from service.core.context import Context
from service.core.errors import Conflict
from service.core.ids import new_id
from service.features.organizations.models import Organization
from service.features.webhooks.models import Delivery, Endpoint, Progress, State, payload_of
from service.features.webhooks.queries import DEAD, FAILED
from service.features.webhooks.schemas import REPLAYED_AT_ONCE, TEST, EndpointCreate, EndpointUpdate, Range
from service.guardrails import preconditions, soft_delete
from service.guardrails.actions import action
from service.guardrails.permissions import Role, Who
from service.integrations.webhooks import new_secret
from service.web.dead_letters import AT_ONCE

MOST_ENDPOINTS = 20

AGAIN = {
    "state": Progress.WAITING, "tries": 0, "finished_at": None, "lease_token": None, "lease_until": None,
    "bundle": None,
}  # fmt: skip


@action("webhooks.create", requires=Role.ADMIN)
async def create_endpoint(ctx: Context, given: EndpointCreate) -> Endpoint:
    """`given.url` has been looked up by the caller: an action never talks to the network."""
    await _insist_on_room(ctx)
    endpoint = Endpoint(id=new_id(), **given.model_dump())
    endpoint.keep_secret(new_secret())
    ctx.add(endpoint)
    await ctx.db.flush()
    return endpoint


@action("webhooks.update", requires=Role.ADMIN)
async def update_endpoint(ctx: Context, endpoint_id: UUID, given: EndpointUpdate) -> Endpoint:
    endpoint = await ctx.get(Endpoint, endpoint_id)
    preconditions.insist(ctx, endpoint.changed_at)
    for name, value in given.model_dump(exclude_none=True).items():
        setattr(endpoint, name, value)
    await ctx.db.flush()
    return endpoint


@action("webhooks.show_secret", requires=Role.ADMIN, step_up=True)
async def show_secret(ctx: Context, endpoint_id: UUID) -> str:
    """The newest signing secret: reading it is an act, so the audit log has it."""
    endpoint = await ctx.get(Endpoint, endpoint_id)
    ctx.facts["endpoint"] = str(endpoint.id)
    return endpoint.open_secret()


@action("webhooks.rotate_secret", requires=Role.ADMIN, step_up=True)
async def rotate_secret(ctx: Context, endpoint_id: UUID) -> Endpoint:
    """A new secret; for a day the old one signs beside it, so that no receiver has to change at that very moment."""
    endpoint = await ctx.get(Endpoint, endpoint_id)
    endpoint.keep_secret(new_secret())
    return endpoint


@action("webhooks.pause", requires=Role.ADMIN, while_unpaid=True)
async def pause_endpoint(ctx: Context, endpoint_id: UUID) -> Endpoint:
    endpoint = await ctx.get(Endpoint, endpoint_id)
    endpoint.pause()
    return endpoint


@action("webhooks.enable", requires=Role.ADMIN)
async def enable_endpoint(ctx: Context, endpoint_id: UUID) -> Endpoint:
    """What waited goes out now."""
    endpoint = await ctx.get(Endpoint, endpoint_id)
    endpoint.enable()
    now = clock.now()
    later = (Delivery.endpoint_id == endpoint.id, Delivery.state == Progress.WAITING, Delivery.next_attempt_at > now)
    await ctx.db.execute(update(Delivery).where(*later).values(next_attempt_at=now))
    return endpoint


@action("webhooks.disable", requires=Who.SYSTEM, while_read_only=True)
async def disable_endpoint(ctx: Context, endpoint_id: UUID, reason: str) -> Endpoint:
    """It failed for days, or said that it is gone; a job tells the admins (jobs.py)."""
    endpoint = await ctx.get(Endpoint, endpoint_id)
    endpoint.disable(reason)
    return endpoint


@action("webhooks.delete", requires=Role.ADMIN, while_unpaid=True)
async def delete_endpoint(ctx: Context, endpoint_id: UUID) -> Endpoint:
    endpoint = await ctx.get(Endpoint, endpoint_id)
    preconditions.insist(ctx, endpoint.changed_at)
    await soft_delete.delete(ctx, endpoint)
    return endpoint


@action("webhooks.restore", requires=Role.ADMIN)
async def restore_endpoint(ctx: Context, endpoint_id: UUID) -> Endpoint:
    """Counted like a new one: else the bin would be the way to as many as one likes."""
    await _insist_on_room(ctx)
    return await soft_delete.restore(ctx, Endpoint, endpoint_id)


@action("webhooks.test", requires=Role.ADMIN, while_impersonated=True)
async def send_test(ctx: Context, endpoint_id: UUID) -> Delivery:
    endpoint = await ctx.get(Endpoint, endpoint_id)
    endpoint.insist_on_active()
    now = clock.now()
    payload = payload_of(ctx.organization_id, TEST, {"endpoint_id": str(endpoint.id)})
    delivery = Delivery(
        id=new_id(), endpoint_id=endpoint.id, event_id=new_id(), type=TEST, payload=payload, state=Progress.WAITING,
        created_at=now, next_attempt_at=now,
    )  # fmt: skip
    ctx.add(delivery)
    return delivery


@action("webhooks.replay", requires=Role.ADMIN)
async def replay_delivery(ctx: Context, delivery_id: UUID) -> Delivery:
    """The same message once more: same id, same bytes, so a receiver that has it can tell."""
    delivery = await ctx.get(Delivery, delivery_id)
    (await ctx.get(Endpoint, delivery.endpoint_id, lock=False)).insist_on_active()
    if delivery.state in (Progress.WAITING, Progress.SENDING):
        raise Conflict("This message is on its way already.", mend="Reload to see what becomes of it.")
    for name, value in {**AGAIN, "next_attempt_at": clock.now()}.items():
        setattr(delivery, name, value)
    return delivery


@action("webhooks.replay_range", requires=Role.ADMIN)
async def replay_range(ctx: Context, endpoint_id: UUID, given: Range) -> int:
    """How many wait again: the first 10,000 of that time."""
    endpoint = await ctx.get(Endpoint, endpoint_id)
    endpoint.insist_on_active()
    states = (Progress.FAILED, Progress.DELIVERED) if given.delivered else (Progress.FAILED,)
    chosen = (
        select(Delivery.id)
        .where(Delivery.endpoint_id == endpoint.id, Delivery.state.in_(states))
        .where(Delivery.created_at >= given.since, Delivery.created_at < given.until)
        .order_by(Delivery.created_at)
        .limit(REPLAYED_AT_ONCE)
    )
    again = update(Delivery).where(Delivery.id.in_(chosen)).values(**AGAIN, next_attempt_at=clock.now())
    done: Any = await ctx.db.execute(again)
    ctx.facts |= {"endpoint": str(endpoint.id), "messages": done.rowcount}
    return int(done.rowcount)


@action("webhooks.skip", requires=Role.ADMIN, while_unpaid=True)
async def skip_delivery(ctx: Context, delivery_id: UUID) -> Delivery:
    """Give a waiting message up: the way out for an ordered endpoint that cannot take the first of its line."""
    delivery = await ctx.get(Delivery, delivery_id)
    if delivery.state != Progress.WAITING:
        raise Conflict("This message does not wait.", mend="Reload to see what became of it.")
    # Out of its bundle: a newer message may bear the name by the time this one is replayed.
    delivery.state, delivery.finished_at, delivery.bundle = Progress.FAILED, clock.now(), None
    return delivery


@action("webhooks.replay_dead", requires=Who.STAFF, step_up=True)
async def replay_dead(ctx: Context, q: str, reason: str) -> int:
    """Send again what was given up on, in whichever organization; the oldest thousand of those that are sought.

    What an organization has paused, or we have switched off, stays: nobody there expects it now. Raises Conflict.
    """
    await ctx.work.act_for(tenant=None, user=ctx.user_id)
    some = select(Delivery.organization_id, Delivery.id).where(FAILED, *DEAD.terms(q))
    oldest = some.order_by(Delivery.created_at, Delivery.id).limit(AT_ONCE).execution_options(across_tenants=True)
    found: dict[UUID, list[UUID]] = {}
    for organization, identifier in (await ctx.db.execute(oldest)).all():
        found.setdefault(organization, []).append(identifier)
    count = 0
    for organization, some_of_it in found.items():
        await ctx.work.act_for(tenant=organization, user=ctx.user_id)
        active = select(Endpoint.id).where(Endpoint.state == State.ACTIVE)
        mine = (Delivery.id.in_(some_of_it), Delivery.state == Progress.FAILED, Delivery.endpoint_id.in_(active))
        again: Any = await ctx.db.execute(update(Delivery).where(*mine).values(**AGAIN, next_attempt_at=clock.now()))
        count += again.rowcount
    await ctx.work.act_for(tenant=None, user=ctx.user_id)
    if not count:
        raise Conflict(
            "None of these can be sent again.",
            mend="Their endpoints are paused, switched off or deleted, or somebody was faster: reload the page.",
        )
    ctx.facts |= {"messages": count, "organizations": len(found), "sought": q, "reason": reason}
    return count


async def _insist_on_room(ctx: Context) -> None:
    await ctx.get(Organization, ctx.tenant)  # two who make the last one at once take turns
    if (await ctx.db.scalar(select(func.count()).select_from(Endpoint)) or 0) >= MOST_ENDPOINTS:
        raise Conflict(f"An organization has at most {MOST_ENDPOINTS} endpoints.", mend="Delete one you do not need.")
