"""What is sold and what is held: everybody in the organization may see the plan, its admins change it."""

from __future__ import annotations

from fastapi import Request, Response

from service.features.billing import queries
from service.features.billing.models.plans import CURRENCY, PLANS, Plan
from service.features.billing.pages._shared import PLAN, RECENT, insist_on_sale, owed, router, show
from service.guardrails.actions import may
from service.guardrails.contexts import Ctx, PublicCtx
from service.guardrails.entitlements import Feature
from service.guardrails.pagination import PageRequest
from service.guardrails.permissions import Role
from service.web.formats import money
from service.web.templating import NavItem, render

NAV = [NavItem("Plan", PLAN, "card", order=65, requires=Role.VIEWER, group="Organization")]


@router.get("/pricing")
async def show_prices(request: Request, ctx: PublicCtx) -> Response:
    insist_on_sale(ctx)
    return render(request, "billing/pricing.html", offers=_offers(), current=None, trial=True, may_change=False)


@router.get("/billing")
async def show_plan(request: Request, ctx: Ctx) -> Response:
    invoices = await queries.list_invoices(ctx, RECENT) if may(ctx, queries.list_invoices) else None
    billing = await queries.get_billing(ctx)
    held = {"current": billing.plan, "trial": billing.trial, **owed(invoices)}
    return show(request, ctx, "plan", billing=billing, offers=_offers(), **held)


@router.get("/billing/invoices")
async def list_invoices(request: Request, ctx: Ctx, page: PageRequest) -> Response:
    return render(request, "billing/invoices.html", invoices=await queries.list_invoices(ctx, page))


def _offers() -> list[tuple[Plan, str, list[str]]]:
    """Each plan that is sold with its price per seat and month, and what it includes in words."""
    return [(plan, money(plan.amount, CURRENCY).removesuffix(".00"), _included(plan)) for plan in PLANS if plan.sold]


def _included(plan: Plan) -> list[str]:
    days = plan.limits[Feature.HISTORY_DAYS]
    return [
        f"{plan.limits[Feature.INDICATORS]:,} indicators",
        f"Up to {plan.limits[Feature.SEATS]:,} people",
        f"{plan.limits[Feature.SOURCES]:,} sources",
        f"{days // 365} years of history" if days >= 730 else f"{days} days of history",
        f"{plan.limits[Feature.API_PER_MINUTE]:,} API requests per minute",
        f"{plan.limits[Feature.FILES_MB]:,} MB of files",
    ]
