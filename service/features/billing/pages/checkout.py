"""To Stripe's pages and back: Checkout, where a plan is paid for, and the portal for cards, addresses and invoices."""

from __future__ import annotations

from fastapi import Request, Response

from service.core.context import Context
from service.features.billing import actions, queries
from service.features.billing.flows.arrival import Arrival, arrive
from service.features.billing.pages._shared import PLAN, begin, go_back, read, router
from service.features.billing.schemas import Intent, PlanWish
from service.guardrails.contexts import Ctx
from service.guardrails.rate_limits import STRIPE_READ, limit
from service.web.flash import flash
from service.web.responses import After, redirect
from service.web.templating import render

MOST_TRIES, PAUSE = 24, 5
"""Two minutes, in seconds between two looks; after that the webhook does it, whenever it comes."""


@router.post("/billing/checkout")
async def begin_checkout(request: Request, ctx: Ctx) -> Response:
    wish = await read(request, ctx, actions.plan_checkout, PlanWish)
    return await begin(request, ctx, actions.plan_checkout, wish.plan, wish.intent)


@router.post("/billing/portal")
async def open_portal(request: Request, ctx: Ctx) -> Response:
    wish = await read(request, ctx, actions.plan_portal, Intent)
    return await begin(request, ctx, actions.plan_portal, wish.intent)


@router.get("/billing/success")
@limit(STRIPE_READ)
async def come_back_paid(request: Request, ctx: Ctx, session_id: str = "", tries: int = 0) -> Response:
    """From Checkout. Whoever shows another organization's session gets nothing for it."""
    return await _arrive(request, ctx, session_id, tries)


@router.get("/billing/return")
@limit(STRIPE_READ)
async def come_back(request: Request, ctx: Ctx) -> Response:
    """From Stripe's portal, where anything may have been changed."""
    return await _arrive(request, ctx, "", MOST_TRIES)


async def _arrive(request: Request, ctx: Context, session: str, tries: int) -> Response:
    customer = await queries.find_customer(ctx)
    resources, organization_id = ctx.resources, ctx.tenant

    async def work() -> Response:
        match await arrive(resources, organization_id, customer, session):
            case Arrival.FOREIGN:
                return go_back(request, "That payment belongs to another organization. Switch to it to see its plan.")
            case Arrival.WAITING if session:
                again = f"/billing/success?session_id={session}&tries={tries + 1}"
                headers = {"Refresh": f"{PAUSE}; url={again}"} if tries < MOST_TRIES else {}
                return render(request, "billing/confirming.html", headers=headers, asking=bool(headers))
            case Arrival.PAID if session:
                flash(request, "Thank you. Your plan is ready.")
        return redirect(request, PLAN)

    return After(work)
