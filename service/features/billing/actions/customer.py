"""What an organization's people may ask for. Each writes down an operation and nothing else: flows/operations.py makes
the call, after this transaction has committed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.dialects.postgresql import insert

from service.core import clock
from service.core.context import Context
from service.core.errors import Conflict, Invalid, NotFound
from service.core.ids import new_id
from service.features.billing.models import Kind, Operation, Status, Subscription
from service.features.billing.models.derive import plan_of_item
from service.features.billing.models.mirror import LIVE, subscriptions_in_mode
from service.features.billing.models.operation import FIRST_GO
from service.features.billing.models.plans import BY_KEY, Plan
from service.features.organizations.models import Membership
from service.guardrails.actions import action
from service.guardrails.permissions import Role, Who

PREVIEW_HOLDS = timedelta(hours=1)
"""How long the price of a preview can be accepted."""


@action("billing.plan_checkout", requires=Role.ADMIN, while_unpaid=True)
async def plan_checkout(ctx: Context, plan_key: str, intent: str) -> Operation:
    """Begin to pay for a plan, on Stripe's own page."""
    plan = _sold(plan_key)
    if await _live(ctx) is not None:
        raise Conflict("You already have a paid plan.", mend="Change it on the plan page instead of buying a second.")
    return await _write_down(ctx, Kind.CHECKOUT, intent, {"plan": plan.key})


@action("billing.plan_portal", requires=Role.ADMIN, while_unpaid=True)
async def plan_portal(ctx: Context, intent: str) -> Operation:
    """Open Stripe's own pages for cards, addresses and invoices."""
    return await _write_down(ctx, Kind.PORTAL, intent, {})


@action("billing.plan_change", requires=Role.ADMIN, while_unpaid=True)
async def plan_change(ctx: Context, plan_key: str, intent: str, proration_date: int) -> Operation:
    """Another plan from now on, at the price that the preview of the same `proration_date` (epoch seconds) showed."""
    plan, subscription = _sold(plan_key), await _insist_on_live(ctx)
    if plan in [plan_of_item(item) for item in subscription.items]:
        raise Conflict(f"You are on the {plan.name} plan already.", mend="Reload the page to see the current state.")
    # The form brings it back, and Stripe takes any moment of the period: from its last second on, every plan is free.
    if abs(proration_date - _now_within(subscription).timestamp()) > PREVIEW_HOLDS.total_seconds():
        raise Conflict("That price has changed meanwhile.", mend="Look at what the change costs now, and confirm that.")
    wish = {"plan": plan.key, "proration_date": proration_date, "subscription": subscription.stripe_id}
    return await _write_down(ctx, Kind.CHANGE_PLAN, intent, wish)


@action("billing.plan_cancellation", requires=Role.ADMIN, while_unpaid=True)
async def plan_cancellation(ctx: Context, intent: str) -> Operation:
    """End with the period that is paid for; nothing is lost before, and it can be taken back until then."""
    subscription = await _insist_on_live(ctx)
    if subscription.ends_at is not None:
        raise Conflict("The plan is cancelled already.", mend="Reload the page to see when it ends.")
    return await _write_down(ctx, Kind.CANCEL, intent, {"subscription": subscription.stripe_id})


@action("billing.plan_resumption", requires=Role.ADMIN, while_unpaid=True)
async def plan_resumption(ctx: Context, intent: str) -> Operation:
    """Take a cancellation back before it has become true."""
    subscription = await _insist_on_live(ctx)
    if subscription.ends_at is None:
        raise Conflict("The plan is not cancelled.", mend="Reload the page to see the current state.")
    wish = {"subscription": subscription.stripe_id, "flag": subscription.cancel_at_period_end}
    return await _write_down(ctx, Kind.RESUME, intent, wish)


@action("billing.plan_seats", requires=Who.SYSTEM)
async def plan_seats(ctx: Context) -> Operation | None:
    """Pay for as many seats as there are members; how many is counted when the call is made, not now."""
    subscription = await _live(ctx)
    members = await ctx.db.scalar(select(func.count()).select_from(Membership))
    if subscription is None or members in {item["quantity"] for item in subscription.items if plan_of_item(item)}:
        return None
    return await _write_down(ctx, Kind.SEATS, new_id().hex, {"subscription": subscription.stripe_id})


@action("billing.plan_end", requires=Who.SYSTEM)
async def plan_end(ctx: Context) -> Operation | None:
    """End the subscription now: the organization was deleted, and nobody pays for what is gone."""
    if (subscription := await _live(ctx)) is None:
        return None
    wish = {"subscription": subscription.stripe_id}
    return await _write_down(ctx, Kind.CANCEL_NOW, new_id().hex, wish)


@action("billing.refund", requires=Who.STAFF, step_up=True)
async def plan_refund(ctx: Context, charge: str, amount: int, reason: str, intent: str) -> Operation:
    """Give money back, in minor units; the plan stays what it is. Acts for the customer's organization."""
    return await _write_down(ctx, Kind.REFUND, intent, {"charge": charge, "amount": amount}, reason)


@action("billing.cancel_now", requires=Who.STAFF, step_up=True)
async def plan_cancel_now(ctx: Context, chosen: str, reason: str, intent: str) -> Operation:
    """End a customer's subscription at once, without giving money back; of several, the `chosen` one."""
    found = {one.stripe_id: one for one in (await ctx.db.execute(_living(ctx))).scalars()}
    if len(found) > 1 and chosen not in found:
        raise Conflict("More than one subscription is live.", mend="Choose which of them shall end.")
    subscription = found.get(chosen) or await _insist_on_live(ctx)
    return await _write_down(ctx, Kind.CANCEL_NOW, intent, {"subscription": subscription.stripe_id}, reason)


async def _write_down(ctx: Context, kind: Kind, intent: str, wish: dict[str, Any], reason: str = "") -> Operation:
    """The operation of this intent: a new one, or the one that the same click has already made.

    Raises Conflict while another change of the organization is on its way.
    """
    identifier, now = new_id(), clock.now()
    by_people = ctx.login is not None
    values = {
        "id": identifier,
        "organization_id": ctx.organization_id or ctx.work.tenant,
        "kind": kind,
        "intent": intent,
        "wish": wish,
        "idempotency_key": f"ballast:{kind}:{identifier}",
        "status": Status.PLANNED,
        "actor": str(ctx.on_behalf_of or ctx.responsible),
        "reason": reason,
        "created_at": now,
        # A person's own request makes the call; the worker comes along should that process die before.
        "next_attempt_at": now + FIRST_GO if by_people else now,
    }
    await ctx.db.execute(insert(Operation).values(values).on_conflict_do_nothing())
    found = (await ctx.db.execute(select(Operation).where(Operation.intent == intent))).scalar_one_or_none()
    if found is None:
        raise Conflict(
            "Another billing change is on its way.", mend="Wait until it is done; the plan page shows it in a moment."
        )
    if (found.kind, found.wish) != (kind, wish):
        # A page that was kept, filled in anew: the first answer must not pass for the second one's.
        raise Conflict("This form was sent before, for something else.", mend="Open the page anew and repeat it there.")
    ctx.facts |= {"kind": str(kind), **wish} | ({"reason": reason} if reason else {})
    return found


def _now_within(subscription: Subscription) -> datetime:
    """Now, or the nearest moment of the period as we know it: Stripe's clock and ours need not agree at its edges."""
    now = clock.now()
    return min(max(now, subscription.period_start or now), subscription.period_end or now)


def _living(ctx: Context) -> Select[Subscription]:
    """What may still earn a plan, newest first."""
    mine = subscriptions_in_mode(ctx.work.tenant, ctx.settings.stripe_livemode)
    return mine.where(Subscription.status.in_(LIVE)).order_by(Subscription.created_at.desc())


async def _live(ctx: Context) -> Subscription | None:
    return (await ctx.db.execute(_living(ctx).limit(1))).scalar_one_or_none()


async def _insist_on_live(ctx: Context) -> Subscription:
    if (found := await _live(ctx)) is None:
        raise NotFound("There is no paid plan to change.", mend="Choose a plan on the plan page first.")
    return found


def _sold(plan_key: str) -> Plan:
    plan = BY_KEY.get(plan_key)
    if plan is None or not plan.sold or not plan.lookup_key:
        raise Invalid("There is no such plan.", fields={"plan": "Choose one of the plans on the pricing page."})
    return plan
