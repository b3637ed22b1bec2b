"""What Stripe says about a customer, what the naive app says, and what ours says: in the same four words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import asyncpg

from infra.sandbox.stripe.store import Obj
from infra.sandbox.stripe.subscription_shape import period_end
from load.headline.people import Person
from service.features.billing.models.plans import BY_LOOKUP_KEY

NAIVE = "SELECT stripe_id, plan, status, period_end, cancel_at FROM customers WHERE stripe_id = ANY($1)"
OURS = """
    SELECT stripe_customer_id, entitlement.plan, copy.status,
        extract(epoch FROM copy.period_end)::bigint, extract(epoch FROM copy.cancel_at)::bigint
    FROM billing_customers AS customer
    LEFT JOIN entitlements AS entitlement ON entitlement.organization_id = customer.organization_id
    LEFT JOIN billing_subscriptions AS copy ON copy.customer_id = customer.id
    WHERE stripe_customer_id = ANY($1)
"""
REMEMBER = "INSERT INTO customers (stripe_id, plan, status, period_end, cancel_at) VALUES ($1, $2, $3, $4, $5)"


@dataclass(frozen=True, slots=True)
class State:
    """`period_end` and `cancel_at` in seconds since the epoch."""

    plan: str | None
    status: str | None
    period_end: int | None
    cancel_at: int | None


def told(person: Person) -> State:
    """The truth."""
    with person.account.lock:
        subscription: Obj = person.subscription
        plan = BY_LOOKUP_KEY[subscription["items"]["data"][0]["price"]["lookup_key"]].key
        return State(plan, subscription["status"], period_end(subscription), subscription["cancel_at"])


async def copies(database: asyncpg.Connection, sql: str, customers: Iterable[str]) -> dict[str, State]:
    """What one of the two says, by customer."""
    rows = await database.fetch(sql, list(customers))
    return {row[0]: State(*tuple(row)[1:]) for row in rows}


async def wrong(database: asyncpg.Connection, sql: str, people: list[Person]) -> list[str]:
    """Who is not as Stripe says; a customer of whom nothing is known is wrong too."""
    found = await copies(database, sql, [person.customer for person in people])
    return [
        f"{person.customer}: {found.get(person.customer)}, and Stripe says {told(person)}"
        for person in people
        if found.get(person.customer) != told(person)
    ]


async def start_right(database: asyncpg.Connection, people: list[Person]) -> None:
    """The naive app begins with the truth: nothing is to be held against it that came before the storms."""
    rows = [(person.customer, told(person)) for person in people]
    await database.executemany(
        REMEMBER, [(name, one.plan, one.status, one.period_end, one.cancel_at) for name, one in rows]
    )
