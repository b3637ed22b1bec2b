"""Another plan, through a preview of what it costs; the end of a plan, and taking that back."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from fastapi import Request, Response

from service.core import clock
from service.core.logging import get_logger
from service.features.billing import actions, queries
from service.features.billing.flows.preview import preview
from service.features.billing.flows.requests import Impossible
from service.features.billing.models import Kind, Status
from service.features.billing.models.operation import PAGES
from service.features.billing.models.plans import BY_KEY
from service.features.billing.pages._shared import (
    PLAN,
    RECENT,
    begin,
    go_back,
    go_to_stripe,
    insist_on_sale,
    owed,
    read,
    router,
    sentence,
    show,
)
from service.features.billing.schemas import BillingRead, ChangeWish, Intent, OperationRead
from service.guardrails.actions import allow
from service.guardrails.contexts import Ctx
from service.guardrails.rate_limits import STRIPE_READ, limit
from service.integrations.stripe.errors import StripeFailed
from service.web.formats import money
from service.web.responses import After, redirect

log = get_logger()
REFRESH = {"Refresh": "4"}
WATCHED = timedelta(minutes=10)
"""How long a page asks again by itself: a tab left open must not keep a session alive for ever."""


@router.post("/billing/cancellation")
async def cancel(request: Request, ctx: Ctx) -> Response:
    wish = await read(request, ctx, actions.plan_cancellation, Intent)
    return await begin(request, ctx, actions.plan_cancellation, wish.intent)


@router.post("/billing/resumption")
async def resume(request: Request, ctx: Ctx) -> Response:
    wish = await read(request, ctx, actions.plan_resumption, Intent)
    return await begin(request, ctx, actions.plan_resumption, wish.intent)


@router.get("/billing/change")
@limit(STRIPE_READ)
async def preview_change(request: Request, ctx: Ctx, plan: str = "") -> Response:
    """What another plan costs now and per month, as Stripe works it out; asked with no transaction open."""
    allow(ctx, actions.plan_change)
    billing, wanted = await queries.get_billing(ctx), BY_KEY.get(plan)
    held = billing.subscription
    if held is None or wanted is None or not wanted.lookup_key or wanted == held.plan:
        return redirect(request, PLAN)
    if insist_on_sale(ctx).away:
        return go_back(request, sentence("open"), "warning")
    resources, organization_id, subscription = ctx.resources, ctx.tenant, held.stripe_id
    # Within the period as we know it, or Stripe refuses: its clock and ours need not agree at a cycle's edge.
    now = max(clock.now(), held.period_start or clock.now())
    at = int(min(now, held.period_end or now).timestamp())

    async def work() -> Response:
        try:
            found = await preview(resources, organization_id, subscription, wanted.key, at)
        except (StripeFailed, Impossible) as error:
            log.warning("no preview", error=type(error).__name__)
            return go_back(request, "What the change would cost cannot be worked out right now. Try again in a moment.")
        values = {
            "lines": [(line.text, money(line.amount, found.currency)) for line in found.lines],
            "due_now": money(max(0, found.due_now), found.currency),
            "costs": found.due_now > 0,
            "credit": sum(line.amount for line in found.lines) < 0,
            "per_month": money(wanted.amount * found.seats, found.currency),
            "proration_date": found.proration_date,
            "seats": found.seats,
            "over": [text for one in billing.usage if (text := one.over(wanted))],
        }
        return show(request, ctx, "change", billing=billing, wanted=wanted, **values)

    return After(work)


@router.post("/billing/change")
async def change_plan(request: Request, ctx: Ctx) -> Response:
    wish = await read(request, ctx, actions.plan_change, ChangeWish)
    return await begin(request, ctx, actions.plan_change, wish.plan, wish.intent, wish.proration_date)


@router.get("/billing/operations/{operation_id}")
async def show_operation(request: Request, ctx: Ctx, operation_id: UUID) -> Response:
    """What became of a change, in plain words; asks again by itself while that may still change."""
    operation = await queries.get_operation(ctx, operation_id)
    billing = await queries.get_billing(ctx)
    waits = operation.status is Status.SUCCEEDED and _is_pending(operation, billing)
    watched = clock.now() - operation.created_at < WATCHED
    if operation.kind in PAGES and operation.status is Status.SUCCEEDED:
        paid = operation.kind is Kind.CHECKOUT and billing.subscription is not None
        if operation.url is None or paid or not watched:
            return redirect(request, PLAN)
        return go_to_stripe(request, ctx, operation.url)
    if operation.status is Status.SUCCEEDED and not waits:
        done = _done(operation, billing)
        # Not before the plan page shows it: whoever still saw the old plan there would make the change again.
        if done or not operation.unread:
            return go_back(request, done or "Done. If this page does not show it yet, it will in a moment.", "success")
    invoices = owed(await queries.list_invoices(ctx, RECENT))
    failed = sentence(operation.error_code) if operation.status is Status.FAILED else ""
    values = {"operation": operation, "billing": billing, "waits": waits, "failed": failed}
    return show(request, ctx, "operation", REFRESH if watched and not failed else {}, **values, **invoices)


def _is_pending(operation: OperationRead, billing: BillingRead) -> bool:
    held = billing.subscription
    return operation.plan is not None and held is not None and held.pending == operation.plan


def _done(operation: OperationRead, billing: BillingRead) -> str:
    """The change in words, when our copy shows it."""
    held = billing.subscription
    match operation.kind:
        case Kind.CHANGE_PLAN if operation.plan == billing.plan:
            return f"You are on the {billing.plan.name} plan now."
        case Kind.CANCEL if held and held.ends_at:
            return "Cancelled. You keep the plan for what is paid, and can take this back until then."
        case Kind.RESUME if held and not held.ends_at:
            return "Your plan goes on as before."
        case _:
            return ""
