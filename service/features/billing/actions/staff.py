"""What staff do about billing; each needs a fresh proof of identity, says why, and stands in the log.

Nothing here repeats a message: the state is read again and every effect is known by its key, so that a click too many
does nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import or_, select, update

from service.core import clock
from service.core.context import Context
from service.core.errors import Conflict, Invalid, NotFound
from service.features.billing.actions.marks import read_again, tie
from service.features.billing.models import BillingCustomer, PlanOverride
from service.features.billing.models.plans import BY_KEY, FREE
from service.features.billing.queries.dead import CUSTOMERS, MESSAGES, UNMATCHED
from service.features.billing.queries.staff import DEAD, OPEN, Filters, Message, fits, get_message, visit
from service.features.organizations.models import Organization
from service.guardrails.actions import action
from service.guardrails.inbox import InboxMessage, State
from service.guardrails.permissions import Who
from service.web.dead_letters import AT_ONCE

MOST = 10_000
REPLAY = """
    UPDATE inbox SET state = CASE WHEN customer.id IS NULL THEN 'unmatched' ELSE 'pending' END, reason = '',
        gen = customer.dirty_gen, attempts = 0, next_attempt_at = now(), last_error = NULL, processed_at = NULL,
        applied_version = NULL
    FROM inbox AS again LEFT JOIN billing_customers AS customer ON customer.stripe_customer_id = again.subject
    WHERE inbox.id = again.id AND again.id = ANY($1::bigint[])
"""


@action("billing.read_body", requires=Who.STAFF, step_up=True, while_read_only=True)
async def read_body(ctx: Context, message_id: int, reason: str) -> Message:
    """A message as it came, with the names and addresses in it."""
    found = await get_message(ctx, message_id)
    ctx.facts |= {"message": found.row.external_id, "reason": reason}
    return found


@action("billing.replay", requires=Who.STAFF, step_up=True, while_read_only=True)
async def replay(ctx: Context, /, reason: str, **filters: Any) -> int:
    """Have the customers of these messages read again; how many messages became part of it. Raises Invalid."""
    values = Filters(**filters).values()
    if not values:
        sentence = "Choose what to replay; everybody at once is on the first page of billing."
        raise Invalid(sentence, fields={"state": sentence})
    return await _replay(ctx, values, reason)


@action("billing.replay_one", requires=Who.STAFF, step_up=True, while_read_only=True)
async def replay_one(ctx: Context, message_id: int, reason: str) -> int:
    return await _replay(ctx, {"id": message_id}, reason)


@action("billing.replay_unmatched", requires=Who.STAFF, step_up=True, while_read_only=True)
async def replay_unmatched(ctx: Context, q: str, reason: str) -> int:
    """What looks like a number is a message's; anything else a type of event."""
    sought = {"id": int(q)} if q.isascii() and q.isdecimal() and len(q) < 19 else {"type": q} if q else {}
    return await _replay(ctx, {"state": State.UNMATCHED, **sought}, reason)


async def _replay(ctx: Context, values: dict[str, Any], reason: str) -> int:
    """What came from the other mode stays where it is: a test card must not buy anything. Raises Conflict."""
    terms = [fits(name, value) for name, value in values.items()]
    statement = (
        select(InboxMessage.id, BillingCustomer.id)
        .outerjoin(BillingCustomer, BillingCustomer.stripe_customer_id == InboxMessage.subject)
        .where(InboxMessage.source == "stripe", InboxMessage.reason != "mode", *terms)
    )
    found = (await ctx.db.execute(statement.order_by(InboxMessage.id).limit(MOST + 1))).all()
    if not found:
        raise Conflict("There is nothing to replay.", mend="Messages of the other mode are never replayed.")
    if len(found) > MOST:
        raise Conflict(f"More than {MOST:,} messages fit.", mend="Narrow the filters, or resync every customer.")
    await _act_for_nobody(ctx)
    customers = {customer for _, customer in found if customer is not None}
    await read_again(ctx.work, sorted(customers))
    await ctx.work.raw.execute(REPLAY, [message for message, _ in found])
    told = {name: str(value) for name, value in values.items()}
    ctx.facts |= {"messages": len(found), "customers": len(customers), "filters": told, "reason": reason}
    return len(found)


@action("billing.discard", requires=Who.STAFF, step_up=True, while_read_only=True)
async def discard(ctx: Context, message_id: int, reason: str) -> InboxMessage:
    """Stop trying to make sense of a message. Raises Conflict when it is settled."""
    message = (await get_message(ctx, message_id)).row
    await ctx.db.refresh(message, with_for_update=True)
    if message.state not in OPEN:
        raise Conflict("This message is settled already.", mend="Reload the page to see what became of it.")
    message.state, message.reason, message.processed_at = State.IGNORED, "discarded", clock.now()
    ctx.facts |= {"message": message.external_id, "reason": reason}
    return message


@action("billing.discard_unmatched", requires=Who.STAFF, step_up=True, while_read_only=True)
async def discard_unmatched(ctx: Context, q: str, reason: str) -> int:
    """Stop asking whose these messages are; the oldest thousand of those that are sought. Raises Conflict."""
    await _act_for_nobody(ctx)
    some = select(InboxMessage.id).where(UNMATCHED, *MESSAGES.terms(q)).order_by(InboxMessage.id)
    found = (await ctx.db.execute(some.limit(AT_ONCE).with_for_update())).scalars().all()
    if not found:
        raise Conflict("None of these is unmatched any more.", mend="Reload the page to see what became of them.")
    settled = {"state": State.IGNORED, "reason": "discarded", "processed_at": clock.now()}
    await ctx.db.execute(update(InboxMessage).where(InboxMessage.id.in_(found)).values(**settled))
    ctx.facts |= {"messages": len(found), "sought": q, "reason": reason}
    return len(found)


@action("billing.link", requires=Who.STAFF, step_up=True, while_read_only=True)
async def link(ctx: Context, message_id: int, organization: UUID, reason: str) -> UUID:
    """Tie the customer of an unmatched message to an organization; the customer's id here. Raises Conflict."""
    found = await get_message(ctx, message_id)
    if (customer := found.row.subject) is None or found.row.reason == "mode":
        raise Conflict("This message names no customer that could be linked.", mend="Find it at Stripe by its object.")
    await ctx.work.act_for(tenant=organization, user=ctx.user_id)
    if (await ctx.db.execute(select(Organization.id).where(Organization.id == organization))).first() is None:
        raise Invalid("There is no such organization.", fields={"organization": "There is no such organization."})
    tied = await tie(ctx.work, organization, customer, livemode=ctx.settings.stripe_livemode)
    if tied is None:
        mine = BillingCustomer.organization_id == organization, BillingCustomer.deleted_at.is_(None)
        both = or_(BillingCustomer.stripe_customer_id == customer, mine[0] & mine[1])
        others = (await ctx.db.execute(select(BillingCustomer).where(both))).scalars()
        told = " and ".join(f"{one.stripe_customer_id} belongs to organization {one.organization_id}" for one in others)
        raise Conflict(f"There is another tie: {told}.", mend="End the wrong one at Stripe first.")
    ctx.facts |= {"customer": customer, "reason": reason}
    return tied


@action("billing.resync", requires=Who.STAFF, step_up=True, while_read_only=True)
async def resync(ctx: Context, customer_id: UUID, reason: str) -> BillingCustomer:
    """Read a customer again, in full, also one that was given up on."""
    customer = await visit(ctx, customer_id)
    await read_again(ctx.work, [customer.id])
    ctx.facts |= {"reason": reason}
    return customer


@action("billing.resync_dead", requires=Who.STAFF, step_up=True, while_read_only=True)
async def resync_dead(ctx: Context, q: str, reason: str) -> int:
    """Try every customer again that was given up on, or those that are sought; how many there were."""
    await _act_for_nobody(ctx)
    mine = select(BillingCustomer.id).where(*DEAD, *CUSTOMERS.terms(q))
    dead = (await ctx.db.execute(mine.order_by(BillingCustomer.id).limit(MOST))).all()
    ctx.facts |= {"customers": len(dead), "sought": q, "reason": reason}
    return await read_again(ctx.work, [row.id for row in dead])


@action("billing.resync_all", requires=Who.STAFF, step_up=True, while_read_only=True)
async def resync_all(ctx: Context, reason: str) -> None:
    """Have every living customer read again: says who asked and why; flows/resync.py marks them, batch by batch."""
    await _act_for_nobody(ctx)
    ctx.facts |= {"reason": reason}


@action("billing.open_customer", requires=Who.STAFF, step_up=True, while_read_only=True)
async def open_customer(ctx: Context, organization_id: UUID) -> None:
    """Have a customer at Stripe for an organization that never bought anything: a plan is given to one. Raises
    NotFound; flows/operations.py makes it, after this transaction has committed."""
    await ctx.work.act_for(tenant=organization_id, user=ctx.user_id)
    ctx.organization_id = organization_id
    if (await ctx.db.execute(select(Organization.id).where(Organization.id == organization_id))).first() is None:
        raise NotFound("There is no such organization.")


@action("billing.override_plan", requires=Who.STAFF, step_up=True)
async def override_plan(ctx: Context, customer_id: UUID, plan: str, ends_at: datetime, reason: str) -> PlanOverride:
    """Give a plan that nobody pays for, in place of what was given before; the free plan only ends that."""
    customer, now = await visit(ctx, customer_id), clock.now()
    if plan not in BY_KEY:
        raise Invalid("There is no such plan.", fields={"plan": "Choose one of the plans."})
    if ends_at <= now:
        raise Invalid("The end has passed.", fields={"ends_on": "Choose a day that is still to come."})
    given = select(PlanOverride).where(PlanOverride.ends_at > now).with_for_update()
    for earlier in (await ctx.db.execute(given)).scalars():
        earlier.ends_at = now
    row = PlanOverride(plan=plan, reason=reason, created_by=ctx.user_id, ends_at=now if plan == FREE.key else ends_at)
    ctx.add(row)
    await read_again(ctx.work, [customer.id])
    ctx.facts |= {"plan": plan, "reason": reason}
    return row


async def _act_for_nobody(ctx: Context) -> None:
    """What concerns many organizations is part of none's log."""
    await ctx.work.act_for(tenant=None, user=ctx.user_id)
