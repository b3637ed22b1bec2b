"""The customers: made at Stripe on the Team plan, and what each of them does while their cycle closes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from uuid import UUID

import asyncpg

from infra.sandbox.stripe import catalog, customers, payment_methods, subscriptions
from infra.sandbox.stripe.clock import DAY, HOUR, WORK
from infra.sandbox.stripe.store import Account, Obj
from infra.sandbox.stripe.subscription_shape import period_end
from load.headline.world import World
from service.core import clock
from service.core.ids import new_id
from service.features.billing.models.plans import BUSINESS, CURRENCY, PLANS, TEAM

MONTH = 31 * DAY
APART = 500
"""Seconds of Stripe's time between two cycles' ends, so that only one customer's closes at a time."""
LAST_SECONDS = 20
"""Of Stripe's time, before the cycle closes: when those upgrade who do it just before."""
BURST_SECONDS = 0.2
"""Real seconds in which everything happens to one customer."""
CARD = "pm_card_visa"

Step = Callable[[], None]


@dataclass(frozen=True)
class Person:
    account: Account
    customer: str
    subscription: Obj
    business: str
    """The price to change to."""
    organization: UUID

    def plan_to_leave(self) -> None:
        self._update({"cancel_at_period_end": True})

    def stay(self) -> None:
        self._update({"cancel_at_period_end": False})

    def upgrade(self) -> None:
        item = self.subscription["items"]["data"][0]["id"]
        self._update({"items": [{"id": item, "price": self.business}], "proration_behavior": "always_invoice"})

    def pay(self, draft: str) -> None:
        """The renewal's invoice stays a draft for an hour; here that hour is over at once."""
        with self.account.lock:
            WORK["invoice_draft_over"](self.account, draft)

    async def live_through_it(self, random: Random, note: Callable[[], Awaitable[None]]) -> None:
        """Upgrade just before the cycle closes, or just after; one in three had planned to leave and stays."""
        is_early = random.random() < 0.5
        pauses = [random.uniform(0, BURST_SECONDS / 2) for _ in range(2)]
        # Noted before: on a slow machine the cycle closes by itself meanwhile, and then its end is the next one's.
        end = period_end(self.subscription)
        with self.account.lock:
            self.account.clock.advance_to(end - LAST_SECONDS)
            if self.subscription["cancel_at_period_end"]:
                self.stay()
            if is_early:
                self.upgrade()
        await note()
        await asyncio.sleep(pauses[0])
        with self.account.lock:
            self.account.clock.advance_to(end)
            draft = str(self.subscription["latest_invoice"])
        await note()
        await asyncio.sleep(pauses[1])
        if not is_early:
            with self.account.lock:
                self.upgrade()
        self.pay(draft)
        await note()

    def _update(self, params: Obj) -> None:
        with self.account.lock:
            subscriptions.update(self.account, self.subscription["id"], params)


async def make_people(stage: World, superuser: asyncpg.Connection, count: int) -> list[Person]:
    """On Team since a month ago, in a row, so that their cycles close one after the other from now on."""
    account = stage.stripe.account
    account.clock.ahead = -MONTH
    prices = _stock(account)
    made: list[tuple[str, UUID]] = []
    for _ in range(count):
        with account.lock:
            customer = customers.add(account, {})["id"]
            method = payment_methods.attached(account, CARD, customer)
            customers.update(account, {"invoice_settings": {"default_payment_method": method["id"]}}, customer)
        made.append((customer, new_id()))
    now = clock.now()
    await superuser.executemany(
        "INSERT INTO organizations (id, name, created_at) VALUES ($1, $2, $3)",
        [(organization, customer, now) for customer, organization in made],
    )
    await superuser.executemany(
        "INSERT INTO billing_customers (id, organization_id, stripe_customer_id, livemode, created_at)"
        " VALUES ($1, $2, $3, false, $4)",
        [(new_id(), organization, customer, now) for customer, organization in made],
    )
    people = []
    for customer, organization in made:
        with account.lock:
            account.clock.advance(APART)
            subscription = subscriptions.create(account, {"customer": customer, "items": [{"price": prices[TEAM.key]}]})
            person = Person(account, customer, subscription, prices[BUSINESS.key], organization)
            if stage.random.random() < 1 / 3:
                person.plan_to_leave()
        people.append(person)
        await asyncio.sleep(0)
    # Past the week before, with its announcements of what will be charged.
    account.clock.advance_to(period_end(people[0].subscription) - HOUR)
    return people


def _stock(account: Account) -> dict[str, str]:
    """The prices that plans.py names; their ids by the plan's key."""
    with account.lock:
        return {
            plan.key: catalog.add_price(account, {
                "currency": CURRENCY, "unit_amount": plan.amount, "lookup_key": plan.lookup_key,
                "recurring": {"interval": "month"}, "product_data": {"name": plan.name},
            })["id"]
            for plan in PLANS if plan.lookup_key
        }  # fmt: skip
