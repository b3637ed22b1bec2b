"""What we sell: the one file to edit. Prices live in Stripe and are found by their lookup keys; `python -m service
doctor` and every start say when the two disagree.

A plan's limits are what `ctx.allow(Feature.X)` asks. Changing a number here works for every customer at their next
synchronization (`python -m service billing resync --all` makes that now); taking something away from people who pay
for it is a new plan with a new key and an old one that is no longer `sold`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from service.guardrails.entitlements import Feature


@dataclass(frozen=True, slots=True)
class Plan:
    key: str
    name: str
    rank: int
    """More is better: of two subscriptions at once the better one counts."""
    about: str
    limits: Mapping[Feature, int]
    lookup_key: str = ""
    """Of the monthly price in Stripe; "" is the free plan, which has none."""
    amount: int = 0
    """Per seat and month in the currency's minor unit, as the pricing page shows it before Stripe is asked."""
    trial_days: int = 0
    sold: bool = True


CURRENCY = "eur"

FREE = Plan(
    key="free",
    name="Free",
    rank=0,
    about="For trying it out: a few indicators and a colleague.",
    limits={
        Feature.INDICATORS: 20,
        Feature.SEATS: 3,
        Feature.SOURCES: 5,
        Feature.HISTORY_DAYS: 90,
        Feature.API_PER_MINUTE: 60,
        Feature.FILES_MB: 100,
    },
)
TEAM = Plan(
    key="team",
    name="Team",
    rank=10,
    about="For a team that looks at its numbers every morning.",
    limits={
        Feature.INDICATORS: 100,
        Feature.SEATS: 25,
        Feature.SOURCES: 25,
        Feature.HISTORY_DAYS: 730,
        Feature.API_PER_MINUTE: 300,
        Feature.FILES_MB: 5_000,
    },
    lookup_key="ballast_team_monthly",
    amount=1_200,
    trial_days=14,
)
BUSINESS = Plan(
    key="business",
    name="Business",
    rank=20,
    about="For companies: more of everything, and years of history.",
    limits={
        Feature.INDICATORS: 1_000,
        Feature.SEATS: 500,
        Feature.SOURCES: 200,
        Feature.HISTORY_DAYS: 3_650,
        Feature.API_PER_MINUTE: 1_200,
        Feature.FILES_MB: 50_000,
    },
    lookup_key="ballast_business_monthly",
    amount=2_900,
)

PLANS = (FREE, TEAM, BUSINESS)
BY_KEY = {plan.key: plan for plan in PLANS}
BY_LOOKUP_KEY = {plan.lookup_key: plan for plan in PLANS if plan.lookup_key}


def grants_of(plan: Plan) -> dict[str, int]:
    """The limits as the entitlements row stores them."""
    return {str(feature): number for feature, number in plan.limits.items()}
