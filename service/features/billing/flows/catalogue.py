"""Compares plans.py with the prices in Stripe: a typo in a lookup key sells nothing, a wrong amount sells too cheap."""

from __future__ import annotations

from typing import Any

from service.core.context import Resources
from service.core.logging import get_logger
from service.core.settings import Settings
from service.features.billing.flows import metrics
from service.features.billing.models.plans import CURRENCY, PLANS, Plan
from service.integrations.stripe.client import StripeApi
from service.integrations.stripe.errors import StripeFailed
from service.integrations.stripe.pace import Urgency

log = get_logger()

SOLD = tuple(plan for plan in PLANS if plan.lookup_key)
AGAIN_SECONDS, SOON_SECONDS = 3600.0, 60.0


async def watch(resources: Resources) -> float:
    """Compare, tell the log and the gauge, and never fail; seconds until the next time."""
    api = resources.get(StripeApi)
    if not api.enabled:
        return AGAIN_SECONDS
    try:
        problems = await mismatches(api)
    except StripeFailed as error:
        log.warning("prices not compared", error=str(error))
        return SOON_SECONDS
    for problem in problems:
        log.error("price mismatch", problem=problem)
    metrics.price_mismatches.set(len(problems))
    return SOON_SECONDS if problems else AGAIN_SECONDS


async def mismatches(api: StripeApi) -> list[str]:
    """One sentence for each price that is not in Stripe as plans.py has it. Raises StripeFailed."""
    found = await _prices(api)
    return [problem for plan in SOLD if (problem := _problem(plan, found.get(plan.lookup_key)))]


async def stock(settings: Settings) -> list[str]:
    """Make the prices that are missing in the sandbox's stand-in; the lookup keys of those made.

    Anywhere else prices are made by people: what is sold is not a matter of a start.
    """
    if settings.is_production or not settings.stripe_api_base:
        return []
    api = StripeApi(settings)
    try:
        found = await _prices(api)
        missing = [plan for plan in SOLD if plan.lookup_key not in found]
        for plan in missing:
            price = {
                "currency": CURRENCY, "unit_amount": plan.amount, "lookup_key": plan.lookup_key,
                "recurring": {"interval": "month"}, "product_data": {"name": f"Ballast {plan.name}"},
            }  # fmt: skip
            await api.call("post", "/v1/prices", price, key=f"ballast:price:{plan.lookup_key}")
        return [plan.lookup_key for plan in missing]
    finally:
        await api.aclose()


async def _prices(api: StripeApi) -> dict[str, dict[str, Any]]:
    asked = {"lookup_keys": [plan.lookup_key for plan in SOLD], "limit": 100}
    listed = await api.call("get", "/v1/prices", asked, urgency=Urgency.SWEEP)
    return {price["lookup_key"]: price for price in listed["data"]}


def _problem(plan: Plan, price: dict[str, Any] | None) -> str:
    if price is None:
        return f"no price in Stripe has the lookup key {plan.lookup_key}: {plan.name} cannot be bought"
    ours = {"active": True, "currency": CURRENCY, "unit_amount": plan.amount, "interval": "month", "interval_count": 1}
    theirs = price | (price.get("recurring") or {})
    wrong = [f"{name} is {theirs.get(name)}, not {value}" for name, value in ours.items() if theirs.get(name) != value]
    return f"price {plan.lookup_key} in Stripe differs from plans.py: {', '.join(wrong)}" if wrong else ""
